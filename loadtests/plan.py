"""What a run is: told by one file to every process that makes load."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

from fhir_server.region import Asked
from loadtests.people import Identity

VARIABLE: Final = "LOADTEST_PLAN"
"""The environment variable with the file's name."""


@dataclass(frozen=True, slots=True)
class Step:
    """So many users for so many seconds."""

    users: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Client:
    """An identity, and how it is known to the authorisation server."""

    identity: Identity
    client_id: str
    key: str
    """File with its private key; empty for a server that asks for no token."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run.

    Args:
        base: the FHIR base.
        token_url: where tokens are given; empty for a server that asks for none.
        folder: where raw data goes.
        asked: the region that is loaded.
        scenarios: names of those that are played.
        pace: seconds from the beginning of a user's action to that of the next.
        hides: whether the server hides what consent does not open.
        lacks: what it cannot, as `loadtests.foreign` calls it: nobody asks for that.
        calls_itself: the FHIR base that its links begin with, where that is another than `base`.
        receivers: where notices may be sent, by what becomes of them there.
        processes: how many make load.
        workers: processes of the server; 0 where it is not ours to start.
    """

    base: str
    token_url: str
    folder: str
    asked: Asked
    clients: Sequence[Client]
    scenarios: Sequence[str]
    steps: Sequence[Step]
    pace: float = 1.0
    hides: bool = True
    receivers: dict[str, str] = field(default_factory=dict)
    processes: int = 1
    workers: int = 0
    lacks: Sequence[str] = ()
    calls_itself: str = ""

    def clients_of(self, kind: str) -> list[Client]:
        """Those of a kind; where there is one for everything, that."""
        return [one for one in self.clients if one.identity.kind in (kind, "anyone")]

    def write(self, path: Path) -> None:
        told = asdict(self)
        told["asked"]["as_of"] = self.asked.as_of.isoformat()
        path.write_text(json.dumps(told, indent=1) + "\n")


def read(path: Path) -> Plan:
    """A plan; what it names stands beside it, unless it says where from the root."""
    told: dict[str, Any] = json.loads(path.read_text())
    beside = path.parent.resolve()
    asked = {**told["asked"], "as_of": date.fromisoformat(told["asked"]["as_of"])}
    return Plan(
        **{
            **told,
            "asked": Asked(**asked),
            "folder": str(beside / told["folder"]),
            "clients": [_client(one, beside) for one in told["clients"]],
            "lacks": tuple(told.get("lacks", ())),
            "steps": [Step(**one) for one in told["steps"]],
        }
    )


def _client(told: dict[str, Any], beside: Path) -> Client:
    own = told["identity"]
    lists = {name: tuple(own[name]) for name in ("scopes", "roles")}
    key = str(beside / told["key"]) if told["key"] else ""
    return Client(Identity(**{**own, **lists}), told["client_id"], key)
