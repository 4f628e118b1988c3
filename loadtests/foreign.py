"""A server that is not started here: what it can, who we are there, and what is left out."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fhir_server.region import Asked
from loadtests.people import Identity, people_of
from loadtests.plan import Client
from loadtests.scenarios import ALL
from loadtests.serving import CannotRun
from loadtests.tokens import NoToken, Tokens

_JSON: Final = "application/fhir+json"
_PATIENCE: Final = 30.0
_SCOPES: Final = ("system/*.cruds",)


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
    """What came of looking."""

    client: Client
    token_url: str
    scenarios: list[str]
    left_out: list[str]


def look(known: Known, asked: Asked) -> Found:
    """Raises CannotRun where nothing can be asked there."""
    if bool(known.client_id) != (known.key is not None):
        raise CannotRun("--client-id and --key go together; give both, or none for no tokens")
    operations = {*_operations(_get(f"{known.base}/metadata", ""))}
    token_url = (known.token_url or _token_url(known.base)) if known.key else ""
    scopes = tuple(known.scopes) or _SCOPES
    client = Client(Identity("all", "anyone", "", scopes), known.client_id, str(known.key or ""))
    _require_region(known, token_url, scopes, asked)
    left_out = [*_left_out(operations)]
    names = [one.name for one in ALL if one.name not in {line.split(":")[0] for line in left_out}]
    return Found(client, token_url, names, left_out)


def _left_out(operations: set[str]) -> Iterator[str]:
    for scenario in ALL:
        missing = [one for one in scenario.operations if one not in operations]
        if missing:
            yield f"{scenario.name}: the server has no ${', $'.join(missing)}"
        elif scenario.own:
            yield f"{scenario.name}: it needs clients of several organisations (see prepare)"


def _operations(statement: dict[str, Any]) -> Iterator[str]:
    if statement.get("resourceType") != "CapabilityStatement":
        raise CannotRun("there is no FHIR server: it has no CapabilityStatement")
    for rest in statement.get("rest", ()):
        for part in (rest, *rest.get("resource", ())):
            yield from (one["name"].lstrip("$") for one in part.get("operation", ()))


def _token_url(base: str) -> str:
    """https://hl7.org/fhir/smart-app-launch/conformance.html"""
    told = _get(f"{base}/.well-known/smart-configuration", "")
    if "token_endpoint" not in told:
        raise CannotRun("its SMART configuration names no token endpoint; give --token-url")
    return str(told["token_endpoint"])


def _require_region(known: Known, token_url: str, scopes: Sequence[str], asked: Asked) -> None:
    """The first and the last young person are there, or all would be wrong."""
    token = ""
    if known.key is not None:
        try:
            token = Tokens(token_url, known.client_id, known.key, scopes).current()
        except NoToken as error:
            raise CannotRun(str(error)) from None
    people = people_of(asked)
    for person in (people[0], people[-1]):
        found = _get(f"{known.base}/Patient/{person.id}", token)
        if found.get("id") != person.id:
            raise CannotRun(
                "the region is not there: send it by keyworking region --server, with the same "
                "--boards, --register, --seed and --as-of"
            )


def _get(url: str, token: str) -> dict[str, Any]:
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
        raise CannotRun(f"{url}: {error.code}") from None
    except (OSError, ValueError) as error:
        raise CannotRun(f"{url}: {error}") from None
    return found if isinstance(found, dict) else {}
