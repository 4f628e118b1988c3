"""FHIR JSON, exactly: decimals keep their digits, and whatever is not strict JSON is refused.

Source: https://hl7.org/fhir/R4/json.html. Decoded values are `dict`, `list`, `str`, `bool`,
`int`, `decimal.Decimal` and `None`; `encode(decode(x))` has the digits of `x`.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypedDict

import msgspec

from fhir_server.errors import FhirError, Kind

MAX_DEPTH: Final = 100
"""Levels of objects and arrays. FHIR sets no bound; questionnaires of 20 levels are known."""

Resource = dict[str, Any]
"""A decoded FHIR resource."""

_decoder: Final = msgspec.json.Decoder(float_hook=Decimal)
_encoder: Final = msgspec.json.Encoder(decimal_format="number")
_ordered_encoder: Final = msgspec.json.Encoder(decimal_format="number", order="sorted")

_SMALL: Final = re.compile(rb"[:\[,]-?\d(?:\.\d+)?E-")
_NO_BRACKET: Final = bytes(set(range(256)) - set(b'[]{}"\\'))
_MOST_NOUGHTS: Final = 40
"""Behind the point of a decimal that is spelt out; smaller ones keep their exponent."""


def encode(value: Any) -> bytes:
    """JSON in UTF-8; a small decimal has its noughts, 0.0000001 and not 1E-7."""
    return _encoded(value, _encoder)


def encode_ordered(value: Any) -> bytes:
    """JSON whose bytes are the same for the same members, in whatever order they came."""
    return _encoded(value, _ordered_encoder)


def _encoded(value: Any, encoder: msgspec.json.Encoder) -> bytes:
    raw = encoder.encode(value)
    return encoder.encode(_spelt_out(value)) if b"E-" in raw and _SMALL.search(raw) else raw


def _spelt_out(value: Any) -> Any:
    match value:
        case Mapping():
            return {name: _spelt_out(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_spelt_out(inner) for inner in value]
        case Decimal() if value.is_finite():
            return msgspec.Raw(decimal_text(value).encode())
    return value


def decimal_text(value: Decimal) -> str:
    """The digits as `encode` writes them."""
    small = value.is_finite() and -_MOST_NOUGHTS < value.adjusted() < -6
    return format(value, "f") if small else str(value)


def decode(raw: bytes, max_depth: int = MAX_DEPTH) -> Any:
    """The value that strict JSON text in UTF-8 stands for.

    Raises:
        FhirError: MALFORMED, for broken JSON, duplicate names, NaN, lone surrogates, a byte
            order mark, or more than `max_depth` levels.
    """
    value = _parse(raw)
    if not _is_shallow(raw, max_depth):
        refuse_depth(value, max_depth)
    # Decoding keeps the last of two equal names. When writing the value gives the same text
    # back, nothing was dropped; only otherwise is the slower look worth its price.
    again = encode(value)
    if again != raw and again != msgspec.json.format(raw, indent=-1):
        _refuse_duplicates(raw)
    return value


def decode_resource(raw: bytes, max_depth: int = MAX_DEPTH) -> Resource:
    """The JSON object in `raw`.

    Raises:
        FhirError: MALFORMED, as `decode`, and for JSON that is not an object.
    """
    if not raw.strip():
        raise FhirError(Kind.MALFORMED, "The body is empty; a FHIR resource in JSON is expected")
    value = decode(raw, max_depth)
    if not isinstance(value, dict):
        raise FhirError(
            Kind.MALFORMED,
            f"The body is a JSON {_json_type(value)}; a resource is a JSON object",
        )
    return value


def decode_own(raw: bytes) -> Any:
    """The value of JSON that this server wrote: whatever `decode` refuses is not in there."""
    return _decoder.decode(raw)


def decode_members(raw: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the members of an object that this server wrote; the others are passed over."""
    found: dict[str, Any] = _members_decoder(names).decode(raw)
    return found


@lru_cache(maxsize=1024)
def _members_decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    typed: Any = TypedDict  # which is for names that are known beforehand
    members = typed("Members", dict.fromkeys(names, Any), total=False)
    return msgspec.json.Decoder(members, float_hook=Decimal)


def _parse(raw: bytes) -> Any:
    try:
        return _decoder.decode(raw)
    except RecursionError:
        raise _too_deep(MAX_DEPTH) from None
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, ValueError) as error:
        raise FhirError(
            Kind.MALFORMED, f"The body is not valid JSON: {_reason(raw, error)}"
        ) from None


def _reason(raw: bytes, error: Exception) -> str:
    if raw.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark, which JSON does not allow"
    try:
        json.loads(raw)
    except json.JSONDecodeError as located:
        return f"{located.msg} (line {located.lineno}, column {located.colno})"
    except (ValueError, RecursionError):
        pass
    return str(error)


def _is_shallow(raw: bytes, most: int) -> bool:
    """Whether JSON has plainly no more than `most` levels; what has is looked at one by one.

    What is left of it are the brackets, where no string holds any: then its quotation marks stand
    side by side. Each time that all empty pairs are taken out, one or two levels go with them.
    """
    if raw.count(b"[") + raw.count(b"{") <= most:
        return True
    left = raw.translate(None, _NO_BRACKET).replace(b'""', b"")
    if b'"' in left or b"\\" in left:
        return False
    for _ in range(most // 2):
        left = left.replace(b"{}", b"").replace(b"[]", b"")
        if not left:
            return True
    return False


def _too_deep(most: int) -> FhirError:
    return FhirError(Kind.MALFORMED, f"The body is nested deeper than {most} levels")


def refuse_depth(value: Any, most: int = MAX_DEPTH) -> None:
    """Raise for more than `most` levels of objects and arrays.

    Raises:
        FhirError: MALFORMED.
    """
    level = [value]
    for _ in range(most):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise _too_deep(most)


def _children(node: Any) -> list[Any]:
    inner = node.values() if isinstance(node, dict) else node
    return [child for child in inner if isinstance(child, dict | list)] if _nests(node) else []


def _nests(node: Any) -> bool:
    return isinstance(node, dict | list)


def _refuse_duplicates(raw: bytes) -> None:
    json.loads(raw, object_pairs_hook=_without_duplicates)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise FhirError(
                Kind.MALFORMED,
                f"The name '{name}' stands twice in one JSON object; each may stand once",
            )
        seen.add(name)


def _json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "number"


class Template:
    """A resource encoded but for the version id and time, which only the commit knows."""

    __slots__ = ("_head", "_tail")

    def __init__(self, resource: Mapping[str, Any]) -> None:
        rest = dict(resource)
        opening = {"resourceType": rest.pop("resourceType"), "id": rest.pop("id")}
        meta = dict(rest.pop("meta", {}))
        meta.pop("versionId", None)
        meta.pop("lastUpdated", None)
        self._head: Final = encode(opening)[:-1] + b',"meta":{"versionId":"'
        self._tail: Final = b'"' + _continued(meta) + _continued(rest)

    def holds(self, text: bytes) -> bool:
        """Whether the text stands anywhere in the JSON but for type and id."""
        return text in self._tail

    def render(self, version: int, last_updated: str) -> bytes:
        """The bytes that are stored and sent, with `meta.versionId` and `meta.lastUpdated`."""
        return b'%b%d","lastUpdated":"%b%b' % (
            self._head,
            version,
            last_updated.encode(),
            self._tail,
        )


def _continued(members: Mapping[str, Any]) -> bytes:
    return b"," + encode(members)[1:] if members else b"}"
