"""transaction: all entries in one commit, or none of them.

https://hl7.org/fhir/R4/http.html#transaction, processing order and references: #trules
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Kind, let_go
from fhir_server.fhir import json
from fhir_server.fhir.bundles import bundle
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import new_id
from fhir_server.interactions import conditions, provenance
from fhir_server.interactions.content import settled
from fhir_server.interactions.entries import Planned, entries_of, placed, planned, response
from fhir_server.interactions.exchange import Answer, Moved, Request
from fhir_server.interactions.links import conditional_references, relinked, with_types
from fhir_server.interactions.permission import require_scopes
from fhir_server.interactions.repeats import once
from fhir_server.interactions.routing import Interaction, checking
from fhir_server.validation.settling import Settler

_ORDER: Final = ("DELETE", "POST", "PUT", "PATCH", "GET", "HEAD")

_LINKED: Final = ("create", "update")
"""Interactions whose resources may refer to other entries."""

_LONGEST_CHAIN: Final = 5
"""Of entries that refer by criteria to one another: bounds how often they are gone through."""

Names = dict[str, str]
"""From an entry's fullUrl, or a reference by criteria, to the `Type/id` on this server."""


async def perform(session: Session, request: Request) -> Answer:
    asked = await checking(request, _planned)
    _require_scopes(session, asked)
    await provenance.ready(session, request)
    plan = await _settled(session, asked)
    _refuse_same_identity_twice(plan)

    try:
        return await _commit(session, request, await _worked_ahead(session, plan))
    except Moved:
        return await _commit(session, request, plan)


async def _commit(session: Session, request: Request, plan: Sequence[Planned]) -> Answer:
    async def work(unit: SessionUnit) -> Answer:
        async def perform() -> Answer:
            answers = await _carry_out(unit, plan)
            await provenance.add(unit, request)
            entries = [response(answer) for answer in answers]
            body = bundle("transaction-response", entries)
            return Answer(200, body=body, honoured=request.preferences.of_return)

        return await once(unit, request, perform)

    return await session.commit("transaction", work)


async def _worked_ahead(session: Session, plan: Sequence[Planned]) -> list[Planned]:
    """With what can be worked out before the commit, of as many bytes as one body may have."""
    known: list[Planned] = []
    held = 0
    for item in plan:
        request = item.request
        if held < request.server.max_body:
            request = await item.interaction.worked_ahead(session, request)
        if request.ahead is not None:
            held += len(request.ahead.source.body)
        known.append(_having(item, request))
    return known


def _having(item: Planned, request: Request) -> Planned:
    return item if item.request is request else replace(item, request=request)


def _planned(request: Request) -> list[Planned]:
    """Every entry, or what is wrong with every one that is wrong."""
    plan: list[Planned] = []
    errors: list[FhirError] = []
    entries = entries_of(request)
    types = dict(_types(entries))
    for index, entry in enumerate(entries):
        try:
            plan.append(_prepared(index, entry, request, types))
        except FhirError as error:
            errors.append(error)
    _raise_all(errors)
    return plan


def _require_scopes(session: Session, plan: Sequence[Planned]) -> None:
    """Raise unless the caller's scopes grant every entry."""
    errors: list[FhirError] = []
    for item in plan:
        try:
            also = ((name, "s") for name in _searched(item))
            require_scopes(session.caller, item.interaction.code, item.request, *also)
        except FhirError as error:
            errors.append(placed(error, item.index))
    _raise_all(errors)


def _searched(item: Planned) -> set[str]:
    """The types that references by criteria search, which tell what is there."""
    found = conditional_references(item.request.resource, item.text, "")
    names = {text.partition("?")[0] for text, _ in found}
    return {name for name in names if is_resource_type(name)}


async def _settled(session: Session, plan: Sequence[Planned]) -> list[Planned]:
    """What the checks left open, asked once for all entries, or every one that is refused."""
    settler = Settler(session.terminology()) if any(one.request.questions for one in plan) else None
    known: list[Planned] = []
    errors: list[FhirError] = []
    for item in plan:
        try:
            known.append(_having(item, await settled(item.request, session, settler)))
        except FhirError as error:
            errors.append(placed(error, item.index))
    _raise_all(errors)
    return known


def _raise_all(errors: Sequence[FhirError]) -> None:
    if errors:
        issues = [issue for error in errors for issue in let_go(error).issues]
        raise FhirError.of(errors[0].kind, issues, errors[0].challenge)


def _types(entries: Sequence[Resource]) -> Iterator[tuple[str, str]]:
    """fullUrls, with references of the types that stand there; which ids they get is not known."""
    for index, entry in enumerate(entries):
        url, resource, asked = entry.get("fullUrl"), entry.get("resource"), entry.get("request")
        writes = isinstance(asked, dict) and asked.get("method") in ("POST", "PUT")
        if writes and isinstance(url, str) and isinstance(resource, dict):
            name = resource.get("resourceType")
            if isinstance(name, str) and is_resource_type(name):
                yield url, f"{name}/entry-{index}"


def _prepared(index: int, entry: Resource, outer: Request, types: Names) -> Planned:
    item = planned(index, entry, outer)
    try:
        if not item.interaction.in_transaction:
            raise FhirError.at(
                Kind.UNSUPPORTED,
                "request.url",
                f"{item.interaction.code} may not be an entry of a transaction",
            )
        # As if it were small: what it refers to gets its names later, and a draft would be in vain.
        is_create = item.interaction.code == "create"
        request = item.request.having(size=0, id=new_id() if is_create else item.request.id)
        text = b"" if request.resource is None else json.encode(request.resource)
        known = _checked(item.interaction, request, text, types)
        return replace(item, request=known.having(size=item.request.size), text=text)
    except FhirError as error:
        raise placed(error, index) from None


def _checked(interaction: Interaction, request: Request, text: bytes, types: Names) -> Request:
    """Checked by the types of what it refers to among the entries; else it is as it was sent."""
    given = request.resource
    if given is None or not types or interaction.code not in _LINKED:
        return interaction.prepared(request)
    seen = interaction.prepared(request.having(resource=with_types(given, text, types)))
    named = {} if seen.resource is None else {"id": seen.resource.get("id")}
    return seen.having(resource={**given, **named} if named.get("id") else given)


def _refuse_same_identity_twice(plan: Sequence[Planned]) -> None:
    seen: dict[str, int] = {}
    for item in plan:
        if not item.interaction.writes or not item.request.id or _is_matched_create(item):
            continue
        for identity in {_target(item), item.full_url} - {""}:
            if identity in seen:
                raise FhirError.at(
                    Kind.INVALID,
                    f"Bundle.entry[{item.index}]",
                    f"{identity} is already written by entry[{seen[identity]}]; "
                    "a transaction may write a resource once",
                )
            seen[identity] = item.index


async def _carry_out(unit: SessionUnit, plan: Sequence[Planned]) -> list[Answer]:
    known = [await _resolved(unit, item) for item in plan]
    _refuse_same_identity_twice(known)
    _refuse_written_matches(known)
    names = _names(known)
    answers: dict[int, Answer] = {}
    in_order = sorted(known, key=lambda item: _ORDER.index(item.request.method))
    referring = [item for item in in_order if _criteria(item, names)]
    later = {item.index for item in referring}
    for item in in_order:
        if item.interaction.writes and item.index not in later:
            answers[item.index] = await _performed(unit, item, names)
    answers |= await _carry_out_referring(unit, referring, names)
    for item in in_order:
        if not item.interaction.writes:
            answers[item.index] = await _performed(unit, item, names)
    return [_shown(answers[item.index], item) for item in known]


async def _carry_out_referring(
    unit: SessionUnit, referring: Sequence[Planned], names: Names
) -> dict[int, Answer]:
    """What refers by criteria, each once all that it refers to is there.

    That may be another of them, so they are gone through until none is left: what a transaction
    does is not to depend on the order of its entries.
    """
    answers: dict[int, Answer] = {}
    waiting, found = referring, Names()
    for _ in range(_LONGEST_CHAIN):
        refused: list[tuple[Planned, FhirError]] = []
        for item in waiting:
            try:
                found |= await _referred_by_criteria(unit, item, names | found)
            except FhirError as error:
                refused.append((item, error))
            else:
                answers[item.index] = await _performed(unit, item, names | found)
        before, waiting = len(waiting), [item for item, _ in refused]
        if len(waiting) in (0, before):
            break
    if waiting:
        raise min(refused, key=lambda one: one[0].index)[1]
    await _require_still_referred(unit, referring, names, found)
    return answers


async def _require_still_referred(
    unit: SessionUnit, referring: Sequence[Planned], names: Names, found: Names
) -> None:
    """Criteria are about what is there in the end: a later entry may fit them as well."""
    for item in sorted(referring, key=lambda item: item.index):
        for text, at in (await _referred_by_criteria(unit, item, names)).items():
            if at != found[text]:
                raise placed(
                    FhirError(
                        Kind.PRECONDITION_FAILED,
                        f"'{text}' finds {found[text]} first, and {at} in the end",
                    ),
                    item.index,
                )


async def _performed(unit: SessionUnit, item: Planned, names: Names) -> Answer:
    try:
        await _require_still_unmatched(unit, item)
        return await item.interaction.perform(unit, _with_links(item, names))
    except FhirError as error:
        raise placed(error, item.index) from None


async def _resolved(unit: SessionUnit, item: Planned) -> Planned:
    """Conditions are decided before anything is written."""
    try:
        return _having(item, await item.interaction.resolved(unit, item.request))
    except FhirError as error:
        raise placed(error, item.index) from None


def _names(plan: Sequence[Planned]) -> Names:
    """What the entries are called on this server; conditional creates may already be there."""
    return {item.full_url: _target(item) for item in plan if item.full_url and _has_name(item)}


def _criteria(item: Planned, names: Names) -> dict[str, str]:
    """From each reference `Type?criteria` of the entry to its place."""
    request = item.request
    if request.resource is None or item.interaction.code not in _LINKED:
        return {}
    references = conditional_references(request.resource, item.text, request.resource_type)
    return {text: place for text, place in references if text not in names}


async def _referred_by_criteria(unit: SessionUnit, item: Planned, names: Names) -> Names:
    """What `Type?criteria` stands for in the entry's references: the one resource it finds."""
    found = Names()
    for text, place in _criteria(item, names).items():
        try:
            found[text] = await conditions.referred(unit, item.request.server, text, place)
        except FhirError as error:
            raise placed(error, item.index) from None
    return found


def _has_name(item: Planned) -> bool:
    return item.interaction.writes and bool(item.request.id)


def _target(item: Planned) -> str:
    request, found = item.request, item.request.matched
    return f"{request.resource_type}/{request.id if found is None else found.id}"


def _refuse_written_matches(plan: Sequence[Planned]) -> None:
    """What a conditional create finds is not changed beside it: its answer would be stale."""
    written = {
        _target(item): item
        for item in plan
        if item.interaction.writes and not _is_matched_create(item)
    }
    for item in plan:
        other = written.get(_target(item))
        if _is_matched_create(item) and other is not None:
            does = "deletes" if other.interaction.code == "delete" else "writes"
            text = f"The condition finds {_target(item)}, which entry[{other.index}] {does}"
            raise placed(FhirError.at(Kind.INVALID, "request.ifNoneExist", text), item.index)


def _is_matched_create(item: Planned) -> bool:
    return item.interaction.code == "create" and item.request.matched is not None


async def _require_still_unmatched(unit: SessionUnit, item: Planned) -> None:
    """What an earlier entry wrote may be the very thing that this one asks not to double."""
    if item.interaction.code not in _LINKED or item.request.matched is not None:
        return
    # Without the resource: under which id it would be stored is decided already.
    asked = item.request.having(resource=None)
    found = (await item.interaction.resolved(unit, asked)).matched
    if found is not None:
        raise FhirError.at(
            Kind.INVALID,
            "request.ifNoneExist",
            f"The condition finds {found.type}/{found.id}, which this transaction writes itself; "
            "a transaction may write a resource once",
        )


def _with_links(item: Planned, names: Names) -> Request:
    # What a read or deletion brings along is neither checked nor used.
    request = item.request
    if request.resource is None or item.interaction.code not in _LINKED:
        return request
    linked = relinked(request.resource, item.text, item.full_url, names)
    return request.having(resource=linked)


def _shown(answer: Answer, item: Planned) -> Answer:
    """A conditional create that found something sends it along only when that is asked for."""
    wanted = item.request.preferences.returns == "representation"
    return replace(answer, body=b"") if _is_matched_create(item) and not wanted else answer
