"""A working mixture of requests: of ten, five reads, three searches, a create and an update."""

import itertools
import json
from typing import Final

from loadtests.bench.asking import Target, raw
from loadtests.bench.cases import CASES
from loadtests.bench.data import Data
from loadtests.client import Make

_UPDATE: Final = "update of a Task"
_TASKS: Final = 128
_OF_TEN: Final = (
    *("read", "search page of 20", "read", "create", "read"),
    *("chained search", "read", "$admission-risk", "read", _UPDATE),
)


def mixture(data: Data, target: Target) -> Make:
    """The requests in turn."""
    cases = {case.name: case for case in CASES}
    names = [name for name in dict.fromkeys(_OF_TEN) if name != _UPDATE]
    made = {name: cases[name].prepare(data, target) for name in names}
    made[_UPDATE] = _updates(data, target)
    return lambda number: made[_OF_TEN[number % len(_OF_TEN)]](number)


def _updates(data: Data, target: Target) -> Make:
    """Of Tasks, which are changed without If-Match: one that is refused spoils none after it."""
    numbers = itertools.count()

    def make(_: int) -> bytes:
        number = next(numbers)
        which = number % _TASKS
        task = {
            "resourceType": "Task",
            "id": f"mixture-{which}",
            "meta": data.plans[0]["meta"],
            "status": "requested",
            "intent": "order",
            "description": f"Ask the school for its report, for the {number}th time",
            "for": {"reference": f"Patient/{data.patients[which % len(data.patients)]}"},
        }
        return raw("PUT", target, f"Task/{task['id']}", json.dumps(task).encode())

    return make


def is_create(number: int) -> bool:
    return _OF_TEN[number % len(_OF_TEN)] == "create"
