"""What SMART scopes mean, and what two of them allow together.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html (2.2), and the form of
version 1: `.read` is `.rs`, `.write` is `.cud`, `.*` is `.cruds`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlencode

from fhir_server.access.caller import Grant
from fhir_server.access.tokens.scopes import parsed

MOST: Final = 50
"""Scopes in one text."""
MOST_GRANTED: Final = 100
MOST_CRITERIA: Final = 20
"""Criteria of one scope: the resource server reads no more."""
LONGEST: Final = 8192
"""Characters of one text."""
_TOKEN: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""https://www.rfc-editor.org/rfc/rfc6749#section-3.3"""
_PLAIN: Final = "|:/,$"
"""Stand as they are in the value of a criterion."""
_FORMS: Final = (
    "system/Type.cruds with a resource type of FHIR R4, * for any, the letters that are meant, in "
    f"this order, and up to {MOST_CRITERIA} ?parameter=value to narrow it; or system/Type.read, "
    ".write and .*"
)


def parse(text: str) -> tuple[Grant, ...]:
    """The scopes of a text, parted by spaces, in order.

    Raises:
        ValueError: what is wrong with it, and what is allowed.
    """
    if len(text) > LONGEST:
        raise ValueError(f"the scopes have more than {LONGEST} characters")
    names = text.split(" ") if text else []
    if len(names) > MOST:
        raise ValueError(f"there are more than {MOST} scopes")
    return tuple(dict.fromkeys(_parsed(name) for name in names))


def _parsed(name: str) -> Grant:
    """As the resource server reads it, with criteria in one order."""
    found = parsed(name) if _TOKEN.fullmatch(name) else None
    if found is None:
        raise ValueError(f"'{name[:200]}' is no scope that is known here; there are {_FORMS}")
    return replace(found, criteria=tuple(sorted({*found.criteria})))


def rendered(grants: Iterable[Grant]) -> str:
    """The text of version 2 that `parse` reads as these."""
    return " ".join(map(_rendered, grants))


def _rendered(grant: Grant) -> str:
    letters = "".join(letter for letter in "cruds" if letter in grant.letters)
    head = f"{grant.level}/{grant.resource_type}.{letters}"
    if not grant.criteria:
        return head
    return f"{head}?{urlencode(grant.criteria, quote_via=quote, safe=_PLAIN)}"


def common(asked: Sequence[Grant], registered: Sequence[Grant]) -> tuple[Grant, ...]:
    """What both allow, and no more: the criteria of both hold.

    Raises:
        ValueError: where that takes too many scopes, or criteria of one, to say.
    """
    kept: list[Grant] = []
    for wish in asked:
        for limit in registered:
            both = _both(wish, limit)
            if both is None or any(_covers(other, both) for other in kept):
                continue
            kept = [other for other in kept if not _covers(both, other)] + [both]
            if len(kept) > MOST_GRANTED or len(both.criteria) > MOST_CRITERIA:
                raise ValueError(
                    f"more than {MOST_GRANTED} scopes, or one with more than {MOST_CRITERIA} "
                    "criteria, would be granted; ask for fewer"
                )
    return tuple(kept)


def _both(one: Grant, other: Grant) -> Grant | None:
    types = {one.resource_type, other.resource_type} - {"*"}
    letters = one.letters & other.letters
    if one.level != other.level or len(types) > 1 or not letters:
        return None
    criteria = tuple(sorted({*one.criteria, *other.criteria}))
    return Grant(one.level, next(iter(types), "*"), letters, criteria)


def _covers(wide: Grant, narrow: Grant) -> bool:
    """Whether the wide one allows all that the narrow one does."""
    return (
        wide.level == narrow.level
        and wide.resource_type in ("*", narrow.resource_type)
        and wide.letters >= narrow.letters
        and {*wide.criteria} <= {*narrow.criteria}
    )
