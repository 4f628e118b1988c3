"""Who a caller is in the records: the names under which facts may speak of them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from fhir_server.access.caller import Caller
from fhir_server.access.facts import kept
from fhir_server.access.facts.naming import ods
from fhir_server.access.facts.parts import ALWAYS, OrganisationPart, RolePart, Span
from fhir_server.fhir.references import parse_relative
from fhir_server.storage.interface import Reader

_PROFESSIONALS: Final = frozenset({"Practitioner", "PractitionerRole"})
_USERS: Final = _PROFESSIONALS | {"Patient", "RelatedPerson"}


@dataclass(frozen=True, slots=True)
class Identities:
    """Names as in the facts: `Practitioner/1`, `Organization/2`, `ods:X99`.

    They hold within `window`, as posts begin and end.
    """

    kind: str
    """The type of the user's resource; '' for a system by itself."""
    person: frozenset[str] = frozenset()
    """The user, and their posts with the organisation that they act for."""
    organisations: frozenset[str] = frozenset()
    colleagues: frozenset[str] = frozenset()
    """Of a system without a user: the posts of its organisation."""
    window: Span = ALWAYS

    @property
    def professional(self) -> bool:
        return self.kind in _PROFESSIONALS

    @property
    def works_for_service(self) -> bool:
        """A professional, or a system of an organisation."""
        return self.professional or (not self.kind and bool(self.organisations))

    @property
    def names(self) -> frozenset[str]:
        return self.person | self.organisations


NOBODY: Final = Identities("nobody")


async def identities(reader: Reader, caller: Caller, now: int) -> Identities:
    """Who the caller is; nobody, where the token's user is none that could be in the records."""
    organisations = frozenset([name async for name in _organisations(reader, caller)])
    if not caller.user:
        posts = [post for name in organisations for post in await _posts(reader, name, "")]
        colleagues = {ref for ref, part in posts if part.period.covers(now)}
        return Identities(
            "", frozenset(), organisations, frozenset(colleagues), _window(posts, now)
        )
    user = parse_relative(caller.user)
    if user is None or user.version is not None or user.type not in _USERS:
        return NOBODY
    if user.type not in _PROFESSIONALS:
        return Identities(user.type, frozenset({str(user)}), organisations)
    posts = await _own_posts(reader, str(user), organisations)
    person = {ref for ref, part in posts if part.period.covers(now)}
    if user.type == "PractitionerRole":
        if str(user) not in person:
            return NOBODY
        person |= {name for ref, part in posts if ref == str(user) for name in part.practitioner}
    else:
        person.add(str(user))
    return Identities(user.type, frozenset(person), organisations, window=_window(posts, now))


async def _organisations(reader: Reader, caller: Caller) -> AsyncIterator[str]:
    """The organisation by its ODS code, and every Organization of that code."""
    code = ods(caller.organisation)
    if code:
        yield code
        for told in await kept.of_subject(reader, code):
            if isinstance(told.part, OrganisationPart):
                yield told.ref


async def _own_posts(
    reader: Reader, user: str, organisations: frozenset[str]
) -> list[tuple[str, RolePart]]:
    """Of a practitioner all, of a post itself; those with another organisation are left out."""
    if user.startswith("PractitionerRole/"):
        told = await kept.at_origin(reader, user)
        found = [(user, told.part)] if told and isinstance(told.part, RolePart) else []
    else:
        found = await _posts(reader, user, user)
    return [
        (ref, part)
        for ref, part in found
        if not part.organisation or organisations & set(part.organisation)
    ]


async def _posts(reader: Reader, subject: str, practitioner: str) -> list[tuple[str, RolePart]]:
    return [
        (told.ref, told.part)
        for told in await kept.of_subject(reader, subject)
        if isinstance(told.part, RolePart)
        and (not practitioner or practitioner in told.part.practitioner)
    ]


def _window(posts: list[tuple[str, RolePart]], now: int) -> Span:
    """The time around `now` in which no post begins or ends."""
    ends = [end for _, part in posts for end in part.period.ends()]
    low = max((end for end in ends if end <= now), default=ALWAYS.low)
    return Span(low, min((end for end in ends if end > now), default=ALWAYS.high))
