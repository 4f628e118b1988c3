"""The service's rules: see `fhir_server.operation.rules`."""
