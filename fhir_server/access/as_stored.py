"""What is read off a resource as it is stored, where it is written as nearly all are.

To look for it takes half of what it takes to decode that one element. It is found where it
belongs or not at all: the bytes are this server's own JSON, without white space and names twice, in
which a quotation mark in a text stands behind a backslash; and no element inside a resource has
the name of the one that says whom the resource is about, or inside a CarePlan that of its
category, except in what is contained, which is looked for. A test goes through the definitions.
"""

from collections.abc import Iterable
from functools import cache
from typing import Final

from fhir_server.access import membership
from fhir_server.fhir import canonicals

_CONTAINED: Final = b'"contained":['
_END: Final = b'"'


@cache
def mark_of(resource_type: str) -> bytes:
    """What stands before the id of the patient whom a resource is about; empty where that is not
    told by one element alone."""
    if resource_type == membership.PATIENT:
        return b'{"resourceType":"Patient","id":"'
    element = membership.element_of(resource_type)
    return f',"{element}":{{"reference":"Patient/'.encode() if element else b""


def behind(mark: bytes, body: bytes) -> str:
    """What stands behind the mark, up to the end of the text; '' where it is not there.

    It may be more than an id: a reference may name a version.
    """
    at = body.find(mark)
    if at < 0 or body.find(_CONTAINED, 0, at) >= 0:
        return ""
    begin = at + len(mark)
    return body[begin : body.index(_END, begin)].decode()


@cache
def category_marks(codes: frozenset[str]) -> tuple[bytes, ...]:
    """What stands in a CarePlan whose first category is one of these, by its first coding."""
    begin = f',"category":[{{"coding":[{{"system":"{canonicals.CARE_PLAN_CATEGORY}","code":"'
    return tuple(f'{begin}{code}"'.encode() for code in sorted(codes))


def has_one(marks: Iterable[bytes], body: bytes) -> bool:
    """Whether one of the marks is there, and not in what is contained."""
    for mark in marks:
        at = body.find(mark)
        if at >= 0 and body.find(_CONTAINED, 0, at) < 0:
            return True
    return False
