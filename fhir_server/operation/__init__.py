"""The plug-in API for operations: a definition, a function, and the records they work on."""
