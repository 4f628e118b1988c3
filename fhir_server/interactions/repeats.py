"""A POST that is sent again under its `X-Request-ID`: it is carried out once.

A sender that got no answer sends again. What it gets is the first answer, and nothing is written;
the same id with another content is a mistake of the sender. The answer is kept in the commit that
it tells of, so there is no moment at which one is there without the other.
https://hl7.org/fhir/R4/http.html#custom names the header.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from fhir_server.access.policy import AUDITED
from fhir_server.access.session import Memo, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.interactions.exchange import Answer, Repeat, Request
from fhir_server.interactions.kept import as_readable_now
from fhir_server.search.ast import IdIn, Query

_SPACE: Final = "repeat"
_PART: Final = " "
"""Before the number of an entry: no id of a sender holds one."""
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_WORKED_OUT: Final = (b'"Parameters"', b'"total":')
"""What an answer holds that need not name what it was worked out of."""
_MICROSECONDS: Final = 1_000_000


def repeat(request_id: str | None, *content: bytes) -> Repeat | None:
    """What makes a POST recognisable; None where its sender gave no id.

    Raises:
        FhirError: INVALID for an id that could not be told again.
    """
    if request_id is None:
        return None
    if not _ID.fullmatch(request_id):
        raise FhirError.at(
            Kind.INVALID,
            "http.X-Request-ID",
            "X-Request-ID is 1 to 128 visible ASCII characters, such as a UUID",
        )
    digest = hashlib.sha256()
    for part in content:
        digest.update(len(part).to_bytes(8, "big") + part)
    return Repeat(request_id, digest.digest())


@dataclass(frozen=True, slots=True)
class _Kept:
    """`stored`: the answer's body is that of the version, which has it already.

    `reach`: what the caller might read, where the answer was worked out of that.
    """

    digest: bytes
    answer: Answer
    stored: bool
    reach: str = ""


_reader: Final = msgspec.msgpack.Decoder(_Kept)


async def once(
    unit: SessionUnit, request: Request, perform: Callable[[], Awaitable[Answer]]
) -> Answer:
    """The answer of the same request before, or what `perform` gives and leaves for the next.

    Raises:
        FhirError: CONFLICT where the id was that of another request; what `perform` raises,
            after which the id is as good as new.
    """
    asked = request.repeat
    if asked is None:
        return await perform()
    before = await recalled(unit, asked)
    if before is not None:
        return before
    answer = await perform()
    await remember(unit, request, answer)
    return answer


async def recalled(unit: SessionUnit, asked: Repeat) -> Answer | None:
    """The answer that was given under the id, None where there was none.

    Raises:
        FhirError: CONFLICT.
    """
    memo = await unit.memo(_SPACE, asked.id)
    if memo is None:
        return None
    kept = _reader.decode(memo.value)
    if kept.digest != asked.digest:
        raise FhirError.at(
            Kind.CONFLICT,
            "http.X-Request-ID",
            f"X-Request-ID '{asked.id}' was that of another request, with another address, "
            "condition or body; give each request an id of its own",
        )
    return await _whole(unit, kept)


async def _whole(unit: SessionUnit, kept: _Kept) -> Answer:
    version = kept.answer.version
    if version is None or not kept.stored:
        is_same = not kept.reach or kept.reach == await unit.reach()
        body = await as_readable_now(unit, kept.answer.body, is_same=is_same)
        return replace(kept.answer, body=body)
    # Read again, as whoever asks now may read.
    if version.type == AUDITED:
        sent = await unit.sent(Query(AUDITED, IdIn((version.id,))), 1)
        return replace(kept.answer, body=sent[0].body if sent else b"")
    found = await unit.vread(version.type, version.id, version.version)
    return replace(kept.answer, body=b"" if found is None else found.body)


async def remember(unit: SessionUnit, request: Request, answer: Answer) -> None:
    """Keep the answer for those who ask again; a refused request may be mended and sent again."""
    asked, server = request.repeat, request.server
    if asked is None or answer.status >= 400:
        return
    version = answer.version
    stored = version is not None and bool(version.body) and answer.body == version.body
    slim = replace(
        answer,
        body=b"" if stored else answer.body,
        version=None if version is None else version._replace(body=b""),
    )
    is_worked_out = any(one in slim.body for one in _WORKED_OUT)
    reach = await unit.reach() if is_worked_out else ""
    value = msgspec.msgpack.encode(_Kept(asked.digest, slim, stored, reach))
    expires = server.clock() + server.repeat_lifetime * _MICROSECONDS
    await unit.keep(Memo(_SPACE, asked.id, value, expires))


def part(asked: Repeat | None, index: int) -> Repeat | None:
    """Of one entry of a batch, which is carried out for itself."""
    return asked and replace(asked, id=f"{asked.id}{_PART}{index}")


async def forget_parts(unit: SessionUnit, asked: Repeat) -> None:
    """Once the answer of the whole batch is kept."""
    await unit.forget(_SPACE, f"{asked.id}{_PART}")
