"""transaction: all entries in one commit, or none of them.

https://hl7.org/fhir/R4/http.html#transaction, processing order and references: #trules
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.session import Session, SessionUnit, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.bundles import bundle
from fhir_server.fhir.references import new_id
from fhir_server.interactions import create
from fhir_server.interactions.entries import Planned, entries_of, placed, planned, response
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.links import relinked

_ORDER: Final = ("DELETE", "POST", "PUT", "PATCH", "GET", "HEAD")

Names = dict[str, str]
"""From an entry's fullUrl to the `Type/id` that it has on this server."""


async def perform(session: Session, request: Request) -> Answer:
    plan = _planned(request)
    _refuse_same_identity_twice(plan)

    async def work(unit: SessionUnit) -> Sequence[Answer]:
        return await _carry_out(unit, plan)

    answers = await session.commit("transaction", work)
    return Answer(200, body=bundle("transaction-response", [response(a) for a in answers]))


def _planned(request: Request) -> list[Planned]:
    """Every entry, or what is wrong with every one that is wrong."""
    plan: list[Planned] = []
    errors: list[FhirError] = []
    for index, entry in enumerate(entries_of(request)):
        try:
            plan.append(_prepared(index, entry, request))
        except FhirError as error:
            errors.append(error)
    if errors:
        raise FhirError.of(errors[0].kind, [issue for error in errors for issue in error.issues])
    return plan


def _prepared(index: int, entry: dict[str, object], outer: Request) -> Planned:
    item = planned(index, entry, outer)
    try:
        if not item.interaction.in_transaction:
            raise FhirError.at(
                Kind.UNSUPPORTED,
                "request.url",
                f"{item.interaction.code} may not be an entry of a transaction",
            )
        request = item.request
        if item.interaction.code == "create":
            request = replace(request, id=new_id())
        return replace(item, request=item.interaction.prepared(request))
    except FhirError as error:
        raise placed(error, index) from None


def _refuse_same_identity_twice(plan: Sequence[Planned]) -> None:
    seen: dict[str, int] = {}
    for item in plan:
        if not item.interaction.writes:
            continue
        target = f"{item.request.resource_type}/{item.request.id}"
        for identity in {target, item.full_url} - {""}:
            if identity in seen:
                raise FhirError.at(
                    Kind.INVALID,
                    f"Bundle.entry[{item.index}]",
                    f"{identity} is already written by entry[{seen[identity]}]; "
                    "a transaction may write a resource once",
                )
            seen[identity] = item.index


async def _carry_out(unit: SessionUnit, plan: Sequence[Planned]) -> list[Answer]:
    answers: dict[int, Answer] = {}
    names = await _names(unit, plan, answers)
    for item in sorted(plan, key=lambda item: _ORDER.index(item.request.method)):
        if item.index in answers:
            continue
        try:
            request = _with_links(item, names)
            answers[item.index] = await item.interaction.perform(unit, request)
            _require_own(item, answers[item.index])
        except FhirError as error:
            raise placed(error, item.index) from None
    return [answers[item.index] for item in plan]


async def _names(unit: SessionUnit, plan: Sequence[Planned], answers: dict[int, Answer]) -> Names:
    """What the entries are called on this server; conditional creates may already be there."""
    names: Names = {}
    for item in plan:
        request = item.request
        target = f"{request.resource_type}/{request.id}"
        if item.interaction.code == "create":
            try:
                existing = await create.match_of(unit, request)
            except FhirError as error:
                raise placed(error, item.index) from None
            if existing is not None:
                _refuse_deleted_match(item, existing, plan)
                target = f"{existing.type}/{existing.id}"
                answers[item.index] = Answer(200, existing, located=True)
        if item.full_url and item.interaction.writes:
            names[item.full_url] = target
    return names


def _refuse_deleted_match(item: Planned, existing: StoredVersion, plan: Sequence[Planned]) -> None:
    for other in plan:
        request = other.request
        if other.interaction.code == "delete" and (request.resource_type, request.id) == (
            existing.type,
            existing.id,
        ):
            error = FhirError.at(
                Kind.INVALID,
                "request.ifNoneExist",
                f"The condition finds {existing.type}/{existing.id}, "
                f"which entry[{other.index}] deletes",
            )
            raise placed(error, item.index)


def _with_links(item: Planned, names: Names) -> Request:
    # What a read or deletion brings along is neither checked nor used.
    if item.request.resource is None or item.interaction.code not in ("create", "update"):
        return item.request
    return replace(item.request, resource=relinked(item.request.resource, item.full_url, names))


def _require_own(item: Planned, answer: Answer) -> None:
    """Links to a conditional create already name the id that it was to have."""
    found = answer.version
    if item.interaction.code == "create" and found is not None and found.id != item.request.id:
        raise FhirError.at(
            Kind.INVALID,
            "request.ifNoneExist",
            f"The condition finds {found.type}/{found.id}, which this transaction writes itself; "
            "a transaction may write a resource once",
        )
