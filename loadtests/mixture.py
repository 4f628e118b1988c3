"""A working mixture of requests: of ten, five reads, three searches, a create and an update."""

from typing import Final

from loadtests.bench.asking import Target
from loadtests.bench.cases import CASES
from loadtests.bench.data import Data
from loadtests.client import Make

_OF_TEN: Final = (
    *("read", "search page of 20", "read", "create", "read"),
    *("chained search", "read", "$admission-risk", "read", "update with If-Match"),
)


def mixture(data: Data, target: Target) -> Make:
    """The requests in turn."""
    cases = {case.name: case for case in CASES}
    made = {name: cases[name].prepare(data, target) for name in dict.fromkeys(_OF_TEN)}
    return lambda number: made[_OF_TEN[number % len(_OF_TEN)]](number)


def is_create(number: int) -> bool:
    return _OF_TEN[number % len(_OF_TEN)] == "create"
