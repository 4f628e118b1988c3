"""Settings by what they are about, which `fhir_server.settings` puts together."""
