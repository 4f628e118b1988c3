"""A server that is not started here: what it can, who we are there, and what is left out.

What it says of itself (https://hl7.org/fhir/R4/capabilitystatement.html) decides what is played,
and where servers commonly say less than they do, or more, it is tried once before the run. What it
lacks is told in a line; it is no failure of the run.
"""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fhir_server.region import Asked
from loadtests.people import Identity, Person, people_of
from loadtests.plan import Client
from loadtests.scenarios import ALL
from loadtests.scenarios.acting import CONFLICTS, COUNTING, GOALS_WITH_PLANS, Scenario
from loadtests.serving import CannotRun
from loadtests.tokens import NoToken, Tokens

_JSON: Final = "application/fhir+json"
_PATIENCE: Final = 30.0
_SCOPES: Final = ("system/*.cruds",)
_WRITES: Final = frozenset({"create", "update"})
_UNAWARE: Final = ("no-version", "versioned")
"""`versioning` of a server that does not look at If-Match."""


@dataclass(frozen=True, slots=True)
class Known:
    """What we are told of it."""

    server: str
    client_id: str
    key: Path | None
    token_url: str
    scopes: Sequence[str]

    @property
    def base(self) -> str:
        return self.server.rstrip("/")


@dataclass(frozen=True, slots=True)
class Found:
    """What came of looking.

    Args:
        left_out: scenarios that are not played, with the reason.
        remarks: what is played otherwise than on a server of this project.
        lacks: as in the plan.
        calls_itself: as in the plan.
    """

    client: Client
    token_url: str
    scenarios: list[str]
    left_out: list[str]
    remarks: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    calls_itself: str = ""


def look(known: Known, asked: Asked) -> Found:
    """Raises CannotRun where nothing can be asked there."""
    _require_sense(known)
    statement = _Statement(_get(f"{known.base}/metadata", ""))
    token_url = (known.token_url or _token_url(known.base)) if known.key else ""
    scopes = tuple(known.scopes) or _SCOPES
    key = str(known.key.resolve()) if known.key else ""
    client = Client(Identity("all", "anyone", "", scopes), known.client_id, key)
    token, granted = _token(client, token_url)
    _require_region(known.base, token, asked)
    tried = _Tried(known.base, token, asked)
    left_out = [*_left_out(statement, granted)]
    names = [one.name for one in ALL if one.name not in {line.split(":")[0] for line in left_out}]
    if not names:
        raise CannotRun(f"nothing can be played there: {'; '.join(left_out)}")
    lacks = dict([(COUNTING, ""), *_lacks(statement, tried)])
    remarks = [*filter(None, lacks.values())]
    calls_itself = tried.calls_itself()
    if calls_itself:
        remarks.append(f"its links begin with {calls_itself}: {known.base} is asked instead")
    return Found(client, token_url, names, left_out, remarks, [*lacks], calls_itself)


def _require_sense(known: Known) -> None:
    if not known.base.startswith(("http://", "https://")):
        raise CannotRun(f"--server has to begin with http:// or https://, not {known.server!r}")
    if bool(known.client_id) != (known.key is not None):
        raise CannotRun("--client-id and --key go together; give both, or none for no tokens")


@dataclass(frozen=True, slots=True)
class _Statement:
    """What the server says that it can.

    Raises:
        CannotRun: it is no FHIR server.
    """

    told: dict[str, Any]

    def __post_init__(self) -> None:
        if self.told.get("resourceType") != "CapabilityStatement":
            raise CannotRun("there is no FHIR server: it has no CapabilityStatement")

    @property
    def operations(self) -> set[str]:
        parts = [part for rest in self._rest for part in (rest, *rest.get("resource", ()))]
        return {one["name"].lstrip("$") for part in parts for one in part.get("operation", ())}

    @property
    def _rest(self) -> list[dict[str, Any]]:
        return self.told.get("rest") or []

    def of(self, kind: str) -> dict[str, Any]:
        """Of a type; empty where nothing is said of it."""
        every = [one for rest in self._rest for one in rest.get("resource", ())]
        return next((one for one in every if one.get("type") == kind), {})

    def missing(self, wanted: Mapping[str, Sequence[str]]) -> Iterator[str]:
        """Interactions that it says it has not: of a type without a list nothing is known."""
        for kind, names in wanted.items():
            told = {one.get("code") for one in self.of(kind).get("interaction", ())}
            yield from (f"{name} of {kind}" for name in names if told and name not in told)


def _left_out(statement: _Statement, granted: str | None) -> Iterator[str]:
    for scenario in ALL:
        operations = [one for one in scenario.operations if one not in statement.operations]
        interactions = [*statement.missing(scenario.interactions)]
        if operations:
            yield f"{scenario.name}: the server has no ${', $'.join(operations)}"
        elif scenario.own:
            yield f"{scenario.name}: it needs clients of several organisations (see prepare)"
        elif interactions:
            yield f"{scenario.name}: the server says that it has no {', '.join(interactions)}"
        elif granted is not None and _writes(scenario) and not _may_write(granted):
            yield f"{scenario.name}: the token is for reading alone ({granted})"


def _writes(scenario: Scenario) -> bool:
    return any(_WRITES & {*names} for names in scenario.interactions.values())


def _may_write(granted: str) -> bool:
    """https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html, of both versions."""
    return bool(re.search(r"/\S+\.(\*|write|c?r?u)", granted))


def _lacks(statement: _Statement, tried: "_Tried") -> Iterator[tuple[str, str]]:
    """What it lacks, and how that is told."""
    if not tried.goals_come_with_plans():
        yield (
            GOALS_WITH_PLANS,
            "it has not answered _include=CarePlan:goal: plans are asked for without goals",
        )
    versioning = statement.of("Goal").get("versioning")
    if versioning in _UNAWARE:
        yield CONFLICTS, f"it says that Goals are {versioning}: no conflict is asked for"


@dataclass(frozen=True, slots=True)
class _Tried:
    """What some requests before the run tell."""

    base: str
    token: str
    asked: Asked

    @property
    def _planned(self) -> Person | None:
        return next((one for one in people_of(self.asked) if one.has_plan), None)

    def goals_come_with_plans(self) -> bool:
        """True, too, where nobody has a plan."""
        if self._planned is None:
            return True
        path = f"CarePlan?patient={self._planned.id}&_include=CarePlan:goal"
        entries = _get(f"{self.base}/{path}", self.token).get("entry", ())
        return "Goal" in {one.get("resource", {}).get("resourceType") for one in entries}

    def calls_itself(self) -> str:
        """The base of its links; empty where it is that by which it is asked."""
        found = _get(f"{self.base}/Patient?_count=1", self.token)
        urls = [str(link.get("url", "")) for link in found.get("link", ())]
        bases = [url.partition("/Patient")[0] for url in urls if "/Patient" in url]
        said = next((one for one in bases if one.startswith(("http://", "https://"))), "")
        return said if said != self.base else ""


def _token_url(base: str) -> str:
    """https://hl7.org/fhir/smart-app-launch/conformance.html"""
    told = _get(f"{base}/.well-known/smart-configuration", "")
    if "token_endpoint" not in told:
        raise CannotRun("its SMART configuration names no token endpoint; give --token-url")
    return str(told["token_endpoint"])


def _token(client: Client, url: str) -> tuple[str, str | None]:
    """A token and what it may do; None of a server without tokens."""
    if not client.key:
        return "", None
    tokens = Tokens(url, client.client_id, Path(client.key), client.identity.scopes)
    try:
        return tokens.current(), tokens.granted
    except NoToken as error:
        raise CannotRun(str(error)) from None


def _require_region(base: str, token: str, asked: Asked) -> None:
    """The first and the last young person are there, or all would be wrong."""
    people = people_of(asked)
    for person in (people[0], people[-1]):
        found = _get(f"{base}/Patient/{person.id}", token)
        if found.get("id") != person.id:
            raise CannotRun(
                "the region is not there: send it by keyworking region --server, with the same "
                "--boards, --register, --seed and --as-of"
            )


def _get(url: str, token: str) -> dict[str, Any]:
    """Its JSON object; empty where there is none.

    Raises:
        CannotRun: it answers with an error, or not at all.
    """
    headers = {"Accept": f"{_JSON}, application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - an operator's own
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            return {}
        raise CannotRun(f"{url}: {error.code}{_hint(error.code, token)}") from None
    except (OSError, ValueError) as error:
        raise CannotRun(f"{url}: {error}") from None
    return found if isinstance(found, dict) else {}


def _hint(status: int, token: str) -> str:
    if status == 401 and not token:
        return "; it asks for tokens: give --client-id and --key"
    if status in (401, 403):
        return "; the token is not for that: see the client's registration and --scope"
    return ""
