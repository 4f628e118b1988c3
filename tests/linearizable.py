"""Whether a history of concurrent operations on one register has an order that explains it.

An operation takes effect at one moment between its beginning and its end. A history is linearizable
if moments can be found such that each answer is what the register says then (Herlihy and Wing,
https://doi.org/10.1145/78969.78972). The search is that of Wing and Gong
(https://doi.org/10.1006/jpdc.1993.1015): only an operation that began before every other open one
ended may be next; what was tried with the same rest and the same value is not tried again.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    READ = "read"
    """`value` is what came."""
    WRITE = "write"
    """`value` is what it set."""
    CAS = "cas"
    """Compare and set: from `expected` to `value`; `done` says whether it did."""


UNKNOWN: Final = math.inf
"""The end of an operation without an answer: it may have taken effect at any time, or never."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a client, with the times at which it was asked and answered."""

    kind: Kind
    began: float
    ended: float
    value: str
    expected: str = ""
    done: bool = True

    @property
    def is_known(self) -> bool:
        return self.ended != UNKNOWN


def is_linearizable(history: Sequence[Operation], initial: str) -> bool:
    """Whether some order of the operations, each at a moment of its own, gives these answers."""
    needed = sum(1 << n for n, operation in enumerate(history) if operation.is_known)
    todo, seen = [(0, initial)], {(0, initial)}
    while todo:
        made, value = todo.pop()
        if made & needed == needed:
            return True
        for step in _next(history, made, value):
            if step not in seen:
                seen.add(step)
                todo.append(step)
    return False


def _next(history: Sequence[Operation], made: int, value: str) -> Iterator[tuple[int, str]]:
    """What may be made after the operations in `made`, and the register's value then."""
    still_open = [n for n in range(len(history)) if not made >> n & 1]
    first_end = min(history[n].ended for n in still_open)
    for number in still_open:
        operation = history[number]
        if operation.began <= first_end:
            after = applied(operation, value)
            if after is not None:
                yield made | 1 << number, after


def applied(operation: Operation, value: str) -> str | None:
    """The register's value after the operation; None where its answer does not fit."""
    match operation.kind:
        case Kind.READ:
            return value if operation.value == value else None
        case Kind.WRITE:
            return operation.value
        case Kind.CAS if not operation.is_known:
            return operation.value if operation.expected == value else value
        case Kind.CAS:
            fits = (operation.expected == value) is operation.done
            return (operation.value if operation.done else value) if fits else None
