"""What the packages of operations hold, read once for all servers that one process makes."""

from functools import lru_cache

from fhir_server.operation.registry import Operations, load
from fhir_server.operation.rules import Rule, load_rules


@lru_cache(16)
def wired(packages: tuple[str, ...]) -> tuple[Operations, tuple[Rule, ...]]:
    """The operations and the rules; packages that are refused are looked at again.

    Raises:
        BadOperation: as `load` and `load_rules` tell it.
    """
    return load(packages), load_rules(packages)
