"""An example of operations that somebody else adds: see `KEYWORKING_OPERATIONS`."""
