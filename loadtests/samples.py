"""A line for each request, and what is read from them again."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Sample:
    """One request.

    Args:
        at: when it was sent, in seconds since 1970.
        ms: until all of the answer was there.
        status: 0 for no answer.
        fault: what is wrong with the answer; empty for nothing.
        store: milliseconds that the server waited for its store; negative where it does not tell.
    """

    at: float
    scenario: str
    name: str
    ms: float
    status: int
    fault: str
    store: float = -1.0

    def line(self) -> str:
        told: list[Any] = [round(self.at, 3), self.scenario, self.name, round(self.ms, 2)]
        return json.dumps([*told, self.status, self.fault, self.store]) + "\n"


@dataclass(frozen=True, slots=True)
class Use:
    """What processes have had by a moment: processor time and resident memory."""

    at: float
    cpu: float
    """Seconds, of all of them together."""
    megabytes: float


@dataclass(frozen=True, slots=True)
class Began:
    """When a step began, with how many users."""

    at: float
    users: int


def store_ms(header: str) -> float:
    """`store` of a `Server-Timing` header (https://www.w3.org/TR/server-timing/)."""
    for part in header.split(","):
        name, *parameters = (one.strip() for one in part.split(";"))
        if name == "store":
            told = [one[4:] for one in parameters if one.startswith("dur=")]
            return float(told[0]) if told else -1.0
    return -1.0


def samples(folder: Path) -> list[Sample]:
    """Those of all processes that made load, in order."""
    found = [Sample(*told) for path in folder.glob("samples-*.ndjson") for told in _lines(path)]
    return sorted(found, key=lambda one: one.at)


SERVER: Final = "use.ndjson"
LOAD: Final = "use-of-load.ndjson"
MACHINE: Final = "use-of-machine.ndjson"
"""Files of what is used: by the server, by what makes load, and by everything."""


def uses(folder: Path, file: str = SERVER) -> list[Use]:
    return [Use(*told) for told in _lines(folder / file)]


def began(folder: Path) -> list[Began]:
    return [Began(told["at"], told["users"]) for told in _lines(folder / "steps.ndjson")]


def actions(folder: Path) -> Counter[str]:
    """How often each scenario was played."""
    found: Counter[str] = Counter()
    for path in folder.glob("actions-*.json"):
        found.update(json.loads(path.read_text()))
    return found


def notices(folder: Path) -> dict[str, int]:
    """How many each receiver took."""
    path = folder / "notices.json"
    found: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _lines(path: Path) -> Iterator[Any]:
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        yield json.loads(line)
