"""Which scopes an interaction needs: told from the route, before anything is read.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html. The scopes of a token are the
first of two gates: the policy of the session decides what of a type the caller may see or write,
and is never wider than they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fhir_server.access.caller import Caller
from fhir_server.access.tokens.problems import REALM
from fhir_server.access.tokens.scopes import ANY, written
from fhir_server.access.tokens.terms import granted
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.interactions.exchange import Request, Server

Needs = Sequence[tuple[str, str]]
"""Types, or `*` for every type, each with its letters."""

_LETTERS: Final[Mapping[str, str]] = {
    "read": "r",
    "vread": "r",
    "history-instance": "r",
    # Whoever lists versions finds them, and is shown each in full.
    "history-type": "rs",
    "history-system": "rs",
    "search-type": "s",
    "search-system": "s",
    "search-compartment": "s",
    "create": "c",
    "update": "u",
    # A patch shows and tests what is there, whatever else it does.
    "patch": "ru",
    "delete": "d",
}
_SIMPLE: Final[Mapping[str, str]] = {"read": "r", "vread": "r", "search-type": "s"}
"""What needs one letter of the type in its address, and is asked most of all."""
_A_TOKEN_ALONE: Final = frozenset({"batch", "capabilities", "job", "job-cancel", "job-file"})
"""Entries of a Bundle are looked at one by one; a job is its caller's own."""
_CONDITIONAL: Final = frozenset({"update", "patch", "delete"})
_OF_SEVERAL: Final = frozenset({"search-system", "history-system", "search-compartment"})


def require_scopes(caller: Caller, code: str, request: Request, *also: tuple[str, str]) -> None:
    """Raise unless the caller's scopes grant what an interaction is about.

    Args:
        also: types with letters that it needs besides.

    Raises:
        FhirError: FORBIDDEN, with what is missing.
    """
    if request.server.open_access:
        return
    base = request.server.base
    letter = _SIMPLE.get(code)
    if letter and not also and granted(caller, request.resource_type, letter, base):
        return
    missing: dict[str, list[str]] = {}
    for name, letters in (*needs(code, request), *also):
        for one in letters:
            if not granted(caller, name, one, base):
                missing.setdefault(name, []).append(one)
    if missing:
        raise _insufficient(missing)


def may(server: Server, caller: Caller, code: str, resource_type: str) -> bool:
    """Whether `require_scopes` lets an interaction pass that needs one letter of the type alone.

    Args:
        code: of the interaction, such as `read`.
    """
    return server.open_access or granted(caller, resource_type, _SIMPLE[code], server.base)


def _insufficient(missing: Mapping[str, Iterable[str]]) -> FhirError:
    """https://www.rfc-editor.org/rfc/rfc6750#section-3.1"""
    told = ", ".join(written(name, set(letters)) for name, letters in missing.items())
    return FhirError(
        Kind.FORBIDDEN,
        f"The scopes of the token do not grant {told}, which is needed here",
        challenge=f'{REALM}, error="insufficient_scope"',
    )


def needs(code: str, request: Request) -> Needs:
    """What the interaction needs: everything, for one that nobody thought of here."""
    if code in _A_TOKEN_ALONE:
        return ()
    if code == "operation":
        return _of_operation(request)
    letters = _LETTERS.get(code, "cruds")
    if _is_conditional(code, request):
        letters += "s"
    return [(name, letters) for name in _types(code, request)]


def _is_conditional(code: str, request: Request) -> bool:
    """Whether criteria find what it is about, which tells that it is there."""
    if code == "create":
        return request.if_none_exist is not None
    return code in _CONDITIONAL and not request.id


def _types(code: str, request: Request) -> Sequence[str]:
    if code == "search-compartment" and request.member != ANY:
        return [request.member]
    return _named(request) if code in _OF_SEVERAL else [request.resource_type or ANY]


def _named(request: Request) -> Sequence[str]:
    """The types that `_type` lists; any, where it lists none or one that there is not."""
    told = [value for name, value in request.parameters if name == "_type"]
    names = [*dict.fromkeys(",".join(told).split(","))]
    return names if all(map(is_resource_type, names)) else [ANY]


def _of_operation(request: Request) -> Needs:
    """As it declares; an operation that is not there needs nothing to be not found."""
    level = "instance" if request.id else "type" if request.resource_type else "system"
    found = request.server.operations.find(request.operation, level, request.resource_type)
    if found is None:
        return ()
    return [(name, letters) for place, letters in found.scopes for name in _places(place, request)]


def _places(place: str, request: Request) -> Sequence[str]:
    if place == "{type}":
        return [request.resource_type or ANY]
    return _named(request) if place == "{_type}" else [place]
