"""The session is tried on every backend, as the storage contract is."""

from tests.storage.conftest import backend, store

__all__ = ["backend", "store"]
