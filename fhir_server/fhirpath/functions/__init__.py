"""The functions of FHIRPath and of FHIR, one module for each chapter of the standard."""
