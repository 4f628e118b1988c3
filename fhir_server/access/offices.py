"""Who works where, and under which code: what records rely on is not for whoever profits.

A care team names an Organization, and a token an ODS code: the Organization's identifier binds the
two. A PractitionerRole binds a post that a care team names to somebody. Whoever could change these
would be in care teams that never chose them, so an administrator who has signed in keeps the posts
of their own organisation alone, and binds neither of them anew. A client that acts by itself does,
such as the feed of the Organisation Data Service (https://digital.nhs.uk/services/
organisation-data-service). That is the project's own rule: docs/access.md.
"""

from collections.abc import Mapping
from typing import Any

from fhir_server.access.caller import Caller, is_system
from fhir_server.access.facts import kept
from fhir_server.access.facts.naming import own_codes
from fhir_server.access.facts.parts import OrganisationPart, keeping
from fhir_server.access.own_names import own_names
from fhir_server.access.policy import refusal
from fhir_server.storage.interface import Reader

Side = Mapping[str, Any] | None


async def require_office(caller: Caller, reader: Reader, old: Side, new: Side) -> None:
    """Raise unless an administrator may make the one of the other.

    Raises:
        FhirError: FORBIDDEN.
    """
    side = new if new is not None else old
    if side is None:
        return
    if is_system(caller):
        await _require_not_taken(caller, reader, old, new)
        return
    match side["resourceType"]:
        case "Organization":
            await _require_same_codes(reader, old, new)
        case "PractitionerRole":
            _require_anothers_post(caller, old, new)
            await _require_own_post(caller, reader, old, new)


async def _require_not_taken(caller: Caller, reader: Reader, old: Side, new: Side) -> None:
    """What an organisation's own client keeps goes by its code: it takes no other's name for it.

    Raises:
        FhirError: FORBIDDEN.
    """
    if new is None or new["resourceType"] != "Organization" or not caller.organisation:
        return
    own = f"ods:{caller.organisation.upper()}"
    if own not in _binding(new)[0] or own in _binding(old)[0]:
        return
    name = f"Organization/{new['id']}"
    if await kept.of_grantee(reader, name) or await kept.of_grantee(reader, keeping(name)):
        raise refusal("Records know this Organization as another: its code is not made one's own")


async def _require_same_codes(reader: Reader, old: Side, new: Side) -> None:
    if _binding(old) == _binding(new):
        return
    if old is None and new is not None and not await _is_relied_on(reader, new):
        await _require_first(reader, new)
        return
    raise refusal(
        "An Organization's ODS code, once it is stored, is kept by a system client of the "
        "administrators; who works there sees what its code opens"
    )


async def _require_first(reader: Reader, new: Mapping[str, Any]) -> None:
    """So many of one code could be made that what it opens cannot be told any more."""
    for code in own_codes(dict(new)):
        told = await kept.of_subject(reader, code)
        if any(isinstance(one.part, OrganisationPart) for one in told):
            raise refusal("Another Organization has this ODS code already")


def _binding(organisation: Side) -> tuple[frozenset[str], bool]:
    """Its codes, and whether they count."""
    if organisation is None:
        return frozenset(), False
    codes = frozenset(own_codes(dict(organisation)))
    return codes, bool(codes) and organisation.get("active") is not False


def _require_anothers_post(caller: Caller, old: Side, new: Side) -> None:
    """By a post somebody is a keyworker or in a care team: nobody takes one."""
    for side in (old, new):
        if side is None or not caller.user:
            continue
        whose = side.get("practitioner", {}).get("reference")
        if caller.user in (whose, f"PractitionerRole/{side.get('id')}"):
            raise refusal("Nobody keeps a post of themselves: another administrator does")


async def _require_own_post(caller: Caller, reader: Reader, old: Side, new: Side) -> None:
    sides = [side for side in (old, new) if side is not None]
    own = await own_names(reader, caller, *(side.get("organization") for side in sides))
    if not all(own.is_organisation(side.get("organization")) for side in sides):
        raise refusal("Posts are kept by administrators of their own organisation")
    if old is not None and new is not None and old.get("practitioner") != new.get("practitioner"):
        raise refusal("A post stays with whom it was given to; another has a post of their own")
    if old is None and new is not None and await _is_relied_on(reader, new):
        raise refusal("Records know a post by this id already; POST gives a new one")


async def _is_relied_on(reader: Reader, new: Mapping[str, Any]) -> bool:
    """Whether the id means something to records already: it was used, or is named before."""
    name = f"{new['resourceType']}/{new['id']}"
    if await reader.read(new["resourceType"], new["id"]) is not None:
        return True
    return bool(await kept.of_grantee(reader, name) or await kept.of_subject(reader, name))
