"""The clients: machines that may ask for tokens, as they are registered.

What a client may ask for at the most, and what its tokens say of it, is registered here by
whoever runs the server; nothing of it is taken from a request.
"""

import re
from collections.abc import AsyncIterator, Collection, Iterator
from functools import cache
from typing import Final

import msgspec

from fhir_server.access.caller import Role
from fhir_server.access.issued import TOKENS
from fhir_server.access.ledger import Ledger, LedgerUnit, Memo
from fhir_server.authorisation import scopes
from fhir_server.authorisation.fetching import wrong_with
from fhir_server.authorisation.signatures import checked_keys
from fhir_server.fhir.references import is_id, parse_relative
from fhir_server.terminology.shipped import shipped

CLIENTS: Final = "clients"
"""The space of their memos."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ODS: Final = re.compile(r"[A-Z0-9]{3,12}")
_USERS: Final = ("Patient", "Person", "Practitioner", "PractitionerRole", "RelatedPerson")
_USERS_NAMED: Final = ", ".join(_USERS)
_ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_LONGEST_NAME: Final = 200
_AT_ONCE: Final = 100


class BadClient(ValueError):
    """What is wrong with a registration, and what is allowed."""


class Client(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A registration."""

    id: str
    name: str = ""
    keys: tuple[dict[str, str], ...] = ()
    """Its public keys, where there is no address of them."""
    jwks_uri: str = ""
    """The address of its key set."""
    scopes: str = ""
    """The most that it is granted."""
    ods_code: str = ""
    """Of the organisation that it acts for."""
    roles: tuple[str, ...] = ()
    """Values of `Role`."""
    purposes: tuple[str, ...] = ()
    """Codes of v3-PurposeOfUse; the first is what it asks for where it asks for none."""
    user: str = ""
    """Reference to the one person who uses it, such as `Practitioner/12`."""
    patient: str = ""
    """Id of the one patient to whom its `patient/` scopes are narrowed."""
    introspects: bool = False
    """Whether it may ask about the tokens of all clients."""
    disabled: bool = False
    registered: int = 0
    """Microseconds since the epoch."""


def checked(client: Client) -> Client:
    """The client, with its scopes in one form.

    Raises:
        BadClient: everything that is wrong with it.
    """
    problems = [*_problems(client)]
    if problems:
        raise BadClient("; ".join(problems))
    granted = scopes.rendered(scopes.parse(client.scopes))
    return msgspec.structs.replace(client, scopes=granted)


def _problems(client: Client) -> Iterator[str]:
    if not is_client_id(client.id):
        yield (
            f"id '{client.id}' is not 1 to 64 letters, digits, '.', '_' and '-', "
            "a letter or digit first"
        )
    if len(client.name) > _LONGEST_NAME or not client.name.isprintable():
        yield f"name is more than {_LONGEST_NAME} characters, or not on one line"
    yield from _key_problems(client)
    yield from _scope_problems(client)
    if client.ods_code and not _ODS.fullmatch(client.ods_code):
        yield (
            f"ods_code '{client.ods_code}' is not 3 to 12 capital letters and digits, such as RXX01"
        )
    yield from _unknown("role", client.roles, [role.value for role in Role])
    yield from _unknown("purpose", client.purposes, purposes() if client.purposes else ())
    yield from _whom_problems(client)


def is_client_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def _key_problems(client: Client) -> Iterator[str]:
    if bool(client.keys) == bool(client.jwks_uri):
        yield "there is either a key set or the address of one"
    if client.jwks_uri:
        wrong = wrong_with(client.jwks_uri)
        if wrong:
            yield f"jwks_uri '{client.jwks_uri}' {wrong}"
        return
    try:
        checked_keys({"keys": [*client.keys]})
    except ValueError as error:
        yield f"jwks: {error}"


def _scope_problems(client: Client) -> Iterator[str]:
    try:
        grants = scopes.parse(client.scopes)
    except ValueError as error:
        yield f"scopes: {error}"
        return
    levels = {grant.level for grant in grants}
    if not grants and not client.introspects:
        yield "scopes: a client has one at least, such as system/CarePlan.rs"
    if "user" in levels and not client.user:
        yield "scopes: user/ is for a client that is registered for a user"
    if "patient" in levels and not client.patient:
        yield "scopes: patient/ is for a client that is registered for a patient"


def _unknown(what: str, given: tuple[str, ...], known: Collection[str]) -> Iterator[str]:
    for one in given:
        if one not in known:
            yield f"{what} '{one}' is not one of {', '.join(sorted(known))}"


def _whom_problems(client: Client) -> Iterator[str]:
    found = parse_relative(client.user)
    if client.user and (found is None or found.version or found.type not in _USERS):
        yield f"user '{client.user}' is not a reference such as Practitioner/12; to {_USERS_NAMED}"
    if client.patient and not is_id(client.patient):
        yield f"patient '{client.patient}' is not the id of a resource"


@cache
def purposes() -> frozenset[str]:
    """The codes of http://terminology.hl7.org/ValueSet/v3-PurposeOfUse."""
    held = shipped("CodeSystem", _ACT_REASON)
    assert held is not None  # noqa: S101 - it is part of what is shipped
    return held.system.related("PurposeOfUse", below=True) - {"PurposeOfUse"}


async def find(ledger: Ledger | LedgerUnit, client_id: str) -> Client | None:
    """The client of that id, disabled or not."""
    memo = await ledger.memo(CLIENTS, _key(client_id)) if is_client_id(client_id) else None
    return None if memo is None else _read(memo)


def _key(client_id: str) -> str:
    """No key begins with another: the store forgets by how keys begin."""
    return f"{client_id}/"


def _read(memo: Memo) -> Client:
    return msgspec.json.decode(memo.value, type=Client)


def _memo(client: Client) -> Memo:
    return Memo(CLIENTS, _key(client.id), msgspec.json.encode(client))


async def every(ledger: Ledger) -> AsyncIterator[Client]:
    """All clients, by id."""
    after = ""
    while some := await ledger.memos(CLIENTS, "", _AT_ONCE, after):
        after = some[-1].key
        for memo in some:
            yield _read(memo)


async def add(ledger: Ledger, client: Client, *, replace: bool = False) -> Client:
    """Register it; with `replace`, also over one that is there, whose tokens end.

    Raises:
        BadClient: it is not registered.
    """
    sound = checked(client)

    async def work(unit: LedgerUnit) -> None:
        if await find(unit, sound.id) is not None:
            if not replace:
                raise BadClient(f"there is a client '{sound.id}'; --replace takes its place")
            await end_tokens(unit, sound.id)
        await unit.keep(_memo(sound))

    await ledger.commit("operator", "client-add", work)
    return sound


async def remove(ledger: Ledger, client_id: str) -> None:
    """From the commit on it gets no token, and none that it has is good.

    Raises:
        BadClient: there is none of that id.
    """

    async def work(unit: LedgerUnit) -> None:
        _require(await find(unit, client_id), client_id)
        await unit.forget(CLIENTS, _key(client_id))
        await end_tokens(unit, client_id)

    await ledger.commit("operator", "client-remove", work)


async def set_disabled(ledger: Ledger, client_id: str, disabled: bool) -> None:
    """Disable it, which ends its tokens as `remove` does, or let it ask again.

    Raises:
        BadClient: there is none of that id.
    """

    async def work(unit: LedgerUnit) -> None:
        client = _require(await find(unit, client_id), client_id)
        changed = msgspec.structs.replace(client, disabled=disabled)
        await unit.keep(_memo(changed))
        await end_tokens(unit, client_id)

    await ledger.commit("operator", "client-disable" if disabled else "client-enable", work)


async def end_tokens(unit: LedgerUnit, client_id: str) -> None:
    """Revoke all tokens of the client."""
    await unit.forget(TOKENS, f"{client_id}/")


def _require(found: Client | None, client_id: str) -> Client:
    if found is None:
        raise BadClient(f"there is no client '{client_id}'")
    return found
