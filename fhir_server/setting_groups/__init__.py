"""Groups of settings, each a base class of the one `Settings`."""
