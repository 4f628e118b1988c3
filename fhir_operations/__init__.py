"""The operations that FHIR itself defines, each a module beside its OperationDefinition."""
