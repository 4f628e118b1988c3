"""Tokens: from `Authorization` to a caller, and what the scopes of a caller are worth."""
