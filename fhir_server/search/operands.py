"""Values of search parameters: from the text in the address to a node, for each type.

Source: https://hl7.org/fhir/R4/search.html#ptypes, with escapes as in #escaping.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from decimal import Context, Decimal, localcontext
from typing import Final, NamedTuple

from fhir_server.fhir.dates import interval
from fhir_server.fhir.definitions import SearchParameter, is_resource_type, resource_types
from fhir_server.fhir.references import LocalReference, is_absolute, is_id, parse_local
from fhir_server.search.ast import (
    DateCompares,
    InValueSet,
    Near,
    Node,
    NumberCompares,
    Prefix,
    QuantityCompares,
    ReferenceTo,
    StringMatches,
    StringMode,
    Subsumes,
    TokenIs,
    UriBelow,
    UriIs,
    disjunction,
)
from fhir_server.search.convert import CODED, of_type
from fhir_server.search.geography import wrapped
from fhir_server.search.values import INFINITY, fold, to_float

Operand = Callable[[str], Node]


class BadOperand(ValueError):
    """The value or modifier does not fit the parameter; the text says what does."""


class NotSupported(ValueError):
    """The standard has it, this server has not; the text says so."""


def reader(
    parameter: SearchParameter,
    modifier: str,
    *,
    base: str,
    now: int,
    indexed: Collection[str] = (),
    place: str = "",
) -> Operand:
    """What turns one value of the parameter into a node.

    Args:
        indexed: modifiers that depend on what the parameter's values are.
        place: the parameter as it was written, for errors that come later.

    Raises:
        BadOperand: for a modifier that the type does not have.
        NotSupported: for one that the standard has, and the server not.
    """
    if modifier in _OWN_VALUES:
        _require_indexed(parameter, modifier, indexed)
        own = _OWN_VALUES[modifier]
        return lambda text: own(f"{parameter.index}:{modifier}", text)
    if parameter.type == "token" and modifier in CODED:
        _require_indexed(parameter, modifier, indexed)
        return _terminological(parameter.index, modifier, base, place)
    if parameter.type == "reference":
        return _reference_reader(parameter, modifier, base)
    allowed = MODIFIERS[parameter.type]
    if modifier not in ("", *allowed):
        names = ", ".join(f":{name}" for name in ("missing", *allowed))
        raise BadOperand(
            f"':{modifier}' is not a modifier for {parameter.code}, a {parameter.type} "
            f"parameter; allowed: {names}"
        )
    match parameter.type:
        case "string":
            return _string_reader(parameter.index, modifier)
        case "date":
            return lambda text: _date(parameter.index, text, now)
        case "uri" if modifier:
            relation = {"above": _uri_above, "below": _uri_below}[modifier]
            return lambda text: relation(parameter.index, text)
        case kind:
            plain = _PLAIN[kind]
            return lambda text: plain(parameter.index, text)


MODIFIERS: Final[Mapping[str, tuple[str, ...]]] = {
    "token": ("not", "text", "of-type", "in", "not-in", "above", "below"),
    "string": ("exact", "contains"),
    "date": (),
    "number": (),
    "quantity": (),
    "uri": ("above", "below"),
    "composite": (),
    "special": (),
}
"""Besides `:missing`, and `:identifier` and `:Type` on references."""


def _require_indexed(parameter: SearchParameter, modifier: str, indexed: Collection[str]) -> None:
    if modifier not in indexed:
        raise BadOperand(
            f"':{modifier}' is not a modifier for {parameter.code}: {_LACKS[modifier]}"
        )


_LACKS: Final = {
    "text": "there is no text beside its codes",
    "of-type": "it is no identifier",
    "identifier": "it is no reference",
    **dict.fromkeys(CODED, "its values are no codes of a code system"),
}


def split(text: str, separator: str, most: int = -1) -> list[str]:
    r"""Parts between separators; the escapes of the other characters stay.

    `\` makes the next character an ordinary one.
    """
    if "\\" not in text:
        return text.split(separator, most)
    parts: list[str] = []
    current, characters = "", iter(text)
    for char in characters:
        if char == "\\":
            current += char + next(characters, "")
        elif char == separator and (most < 0 or len(parts) < most):
            parts.append(current)
            current = ""
        else:
            current += char
    return [*parts, current]


def unescape(text: str) -> str:
    r"""Without the `\` before `,`, `|`, `$` and `\`."""
    return re.sub(r"\\([,|$\\])", r"\1", text) if "\\" in text else text


def _terminological(code: str, modifier: str, base: str, place: str) -> Operand:
    if modifier in ("in", "not-in"):
        return lambda text: _in_value_set(code, unescape(text), base, place)
    return lambda text: _subsumes(code, text, modifier, place)


def _in_value_set(code: str, text: str, base: str, place: str) -> Node:
    """The address may be that of the resource: relative, or absolute on this server."""
    local = parse_local(text, base)
    if local is None and not is_absolute(text):
        raise BadOperand(
            f"'{text}' is not a value set; its canonical address, or ValueSet/id, is expected"
        )
    if local is not None and (local.type != "ValueSet" or local.version):
        raise BadOperand(f"'{text}' is not the address of a ValueSet, as in ValueSet/id")
    return InValueSet(code, text, str(local or ""), place)


def _subsumes(code: str, text: str, modifier: str, place: str) -> Node:
    parts = [unescape(part) for part in split(text, "|", 1)]
    if len(parts) != 2 or not all(parts):
        raise BadOperand(
            f"'{text}' is not of the form system|code: what is {modifier} a code, its system says"
        )
    return Subsumes(code, parts[0], parts[1], modifier == "below", place)


def _string_reader(code: str, modifier: str) -> Operand:
    mode = {"": StringMode.STARTS, "exact": StringMode.EXACT, "contains": StringMode.CONTAINS}[
        modifier
    ]

    def read(text: str) -> Node:
        plain = unescape(text)
        wanted = plain if mode is StringMode.EXACT else fold(plain)
        if not wanted.strip():
            raise BadOperand("the text to look for is empty")
        return StringMatches(code, mode, wanted)

    return read


def _token(code: str, text: str) -> Node:
    parts = [unescape(part) for part in split(text, "|", 1)]
    if len(parts) == 1:
        if not parts[0]:
            raise BadOperand("the code is empty")
        return TokenIs(code, None, parts[0])
    system, token = parts
    if not system and not token:
        raise BadOperand("'|' alone is no token; code, system|code, |code or system| is expected")
    return TokenIs(code, system, token or None)


def _uri(code: str, text: str) -> Node:
    return UriIs(code, unescape(text))


_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/]+)(/.*)?", re.DOTALL)


def _uri_below(code: str, text: str) -> Node:
    return UriBelow(code, _url(text).rstrip("/"))


def _uri_above(code: str, text: str) -> Node:
    """The address itself and each beginning of its path, with and without a slash."""
    url = _url(text).rstrip("/")
    found = _URL.fullmatch(url)
    assert found is not None  # noqa: S101 - as _url has seen
    host, path = found[1], found[2] or ""
    stems = [host + path[:end] for end in (*_slashes(path), len(path))]
    return disjunction(*(UriIs(code, uri) for stem in stems for uri in (stem, f"{stem}/")))


def _slashes(path: str) -> list[int]:
    return [at for at, char in enumerate(path) if char == "/"]


def _url(text: str) -> str:
    url = unescape(text)
    if not _URL.fullmatch(url):
        raise BadOperand(f"'{url}' is no URL with a path, such as http://example.org/fhir")
    if url.count("/") > _MAX_PATH:
        raise BadOperand(f"'{url[:60]}…' has more than {_MAX_PATH} slashes")
    return url


_MAX_PATH: Final = 40


def _text(code: str, text: str) -> Node:
    folded = fold(unescape(text))
    if not folded:
        raise BadOperand("the text to look for is empty")
    return StringMatches(code, StringMode.STARTS, folded)


def _of_type(code: str, text: str) -> Node:
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) != 3 or not all(parts):
        raise BadOperand(f"'{text}' is not of the form system|code|value: all three are needed")
    system, type_code, value = parts
    return TokenIs(code, system, of_type(type_code, value))


def _reference_reader(parameter: SearchParameter, modifier: str, base: str) -> Operand:
    if modifier and not is_resource_type(modifier):
        raise BadOperand(
            f"':{modifier}' is not a modifier for {parameter.code}, a reference parameter; "
            "allowed: :missing, :identifier and :Type, a resource type"
        )
    if modifier and parameter.targets and modifier not in parameter.targets:
        raise BadOperand(
            f"{parameter.code} never refers to a {modifier}; "
            f"allowed: :missing, :identifier and :{', :'.join(parameter.targets)}"
        )
    types = (modifier,) if modifier else parameter.targets or resource_types()

    def read(text: str) -> Node:
        plain = unescape(text)
        if is_id(plain):
            targets = [f"{type_name}/{plain}" for type_name in types]
            absolute = [f"{base}/{target}" for target in targets]
            return ReferenceTo(parameter.index, (*targets, *absolute))
        local = parse_local(plain, base)
        if local is not None:
            if modifier not in ("", local.type):
                raise BadOperand(f"'{plain}' is not a {modifier}, as ':{modifier}' asks")
            return _local(parameter.index, local, base)
        if not is_absolute(plain):
            raise BadOperand(
                f"'{plain}' is not a reference; id, Type/id or an absolute address is expected"
            )
        url, _, version = plain.partition("|")
        return ReferenceTo(parameter.index, (url,), version)

    return read


def _local(code: str, local: LocalReference, base: str) -> Node:
    if not local.version:
        return ReferenceTo(code, (str(local), f"{base}/{local}"))
    absolute = f"{base}/{local}/_history/{local.version}"
    return disjunction(
        ReferenceTo(code, (str(local),), local.version), ReferenceTo(code, (absolute,))
    )


_PREFIXED: Final = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(.*)", re.DOTALL)
_LETTERS: Final = re.compile(r"[A-Za-z]+")


def _prefixed(text: str) -> tuple[Prefix, str]:
    found = _PREFIXED.fullmatch(text)
    assert found is not None  # noqa: S101 - the pattern matches every text
    prefix, rest = found[1], found[2]
    if prefix is None and (letters := _LETTERS.match(rest)):
        allowed = ", ".join(prefix.value for prefix in Prefix)
        raise BadOperand(f"'{letters[0]}' is not a prefix; allowed: {allowed}")
    return Prefix(prefix or "eq"), rest


def _date(code: str, text: str, now: int) -> Node:
    prefix, rest = _prefixed(text)
    # In a query string that was not percent-encoded, the + of a zone arrives as a space.
    rest = rest.replace(" ", "+")
    try:
        low, high = interval(rest)
    except (ValueError, OverflowError):
        raise BadOperand(
            f"'{rest}' is not a date: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss][zone]"
        ) from None
    if prefix is Prefix.AP:
        margin = abs(now - low) // 10
        low, high = low - margin, high + margin
    return DateCompares(code, prefix, low, high)


class _Amount(NamedTuple):
    prefix: Prefix
    value: float
    low: float
    high: float


_DIGITS: Final = 100
"""More than the pattern of a number lets through, so that no sum is rounded."""
_NUMBER: Final = re.compile(
    r"[+-]?\d{1,40}(?:\.\d{1,40})?(?P<exponent>[eE][+-]?\d{1,3})?", re.ASCII
)


def _amount(text: str) -> _Amount:
    prefix, rest = _prefixed(text)
    rest = rest.replace(" ", "+")
    found = _NUMBER.fullmatch(rest)
    if found is None:
        raise BadOperand(f"'{rest}' is not a number; digits such as 100, 5.40 or 1e-2 are expected")
    value = Decimal(rest)
    margin = abs(value) / 10 if prefix is Prefix.AP else _precision(value, found["exponent"])
    with localcontext(Context(prec=_DIGITS)):
        low, high = to_float(value - margin), to_float(value + margin)
    # Where the half of the last digit is less than doubles tell apart, the number itself is left.
    above = math.nextafter(to_float(value), math.inf)
    return _Amount(prefix, to_float(value), low, min(max(high, above), INFINITY))


def _precision(value: Decimal, exponent: str | None) -> Decimal:
    """Half of the last digit's place; in exponent form a tenth of that.

    The standard has 100 as [99.5, 100.5) and 1e2 as [95, 105)
    (https://hl7.org/fhir/R4/search.html#number).
    """
    place = int(value.as_tuple().exponent)
    return Decimal(5).scaleb(place - (2 if exponent else 1))


def _number(code: str, text: str) -> Node:
    return NumberCompares(code, *_amount(text))


def _quantity(code: str, text: str) -> Node:
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) == 1:
        return QuantityCompares(code, *_amount(parts[0]), "", "")
    if len(parts) != 3 or not parts[2]:
        raise BadOperand(
            f"'{text}' is not a quantity; number, number|system|code or number||unit is expected"
        )
    return QuantityCompares(code, *_amount(parts[0]), parts[1], parts[2])


UNITS: Final[Mapping[str, float]] = {
    "km": 1000.0,
    "m": 1.0,
    "[mi_i]": 1609.344,
    "[mi_us]": 6336000 / 3937,
    "[nmi_i]": 1852.0,
    "[yd_i]": 0.9144,
    "[ft_i]": 0.3048,
}
"""Metres in a unit of UCUM (https://ucum.org/ucum)."""
_NEAR: Final = 10.0
"""Kilometres; the standard leaves to the server what is near where no distance is given."""


def _near(code: str, text: str) -> Node:
    """https://hl7.org/fhir/R4/location.html#search"""
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) not in (2, 3, 4):
        raise BadOperand(
            f"'{text}' is not a place; latitude|longitude, followed by |distance or "
            "|distance|units, is expected"
        )
    latitude, longitude = _degrees(parts[0], 90), _degrees(parts[1], 180)
    distance = _length(parts[2] if len(parts) > 2 else "", parts[3] if len(parts) > 3 else "")
    return Near(code, latitude, wrapped(longitude), distance)


def _degrees(text: str, most: int) -> float:
    if _NUMBER.fullmatch(text.strip()) is None or abs(Decimal(text.strip())) > most:
        raise BadOperand(f"'{text}' is not in degrees; a number from -{most} to {most} is expected")
    return float(text)


def _length(text: str, unit: str) -> float:
    """In metres."""
    if not text:
        return _NEAR * UNITS["km"]
    if _NUMBER.fullmatch(text.strip()) is None or (number := Decimal(text.strip())) < 0:
        raise BadOperand(f"'{text}' is not a distance; a number from 0 is expected")
    if unit and unit not in UNITS:
        raise BadOperand(f"'{unit}' is not a unit of length here; {', '.join(UNITS)} are")
    return min(to_float(number) * UNITS[unit or "km"], INFINITY)


_PLAIN: Final[Mapping[str, Callable[[str, str], Node]]] = {
    "token": _token,
    "uri": _uri,
    "number": _number,
    "quantity": _quantity,
    "special": _near,
}

_OWN_VALUES: Final[Mapping[str, Callable[[str, str], Node]]] = {
    "text": _text,
    "of-type": _of_type,
    "identifier": _token,
}
