"""The formats of R4's primitive types.

Each check takes a decoded JSON value and says what is wrong with it, or None when it is right.
Source: https://hl7.org/fhir/R4/datatypes.html#primitive; regular expressions and ranges are the
standard's, a day must exist in the calendar.
"""

import binascii
import re
from calendar import monthrange
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from fhir_server.validation.narrative import xhtml_problem

Problem = str | None
PrimitiveCheck = Callable[[object], Problem]

MAX_STRING: Final = 1024 * 1024
"""Characters of a string: https://hl7.org/fhir/R4/datatypes.html#string."""
MAX_EXPONENT: Final = 1000
"""Powers of ten of a decimal. R4 has no limit; more than this is an attack on who computes."""
_MAX_WHOLE: Final = 10 ** (MAX_EXPONENT + 1)
_MAX_SHOWN: Final = 60

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SPACE: Final = re.compile(r"\s", re.ASCII)
_CODE: Final = re.compile(r"\S+(?:\s\S+)*", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_OID: Final = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+", re.ASCII)
_UUID: Final = re.compile(
    r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII
)
_DAY_PATTERN: Final = r"(?!0000)([0-9]{4})(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12][0-9]|3[01])%s)?)?"
_TIME_PATTERN: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE_PATTERN: Final = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_DATE: Final = re.compile(_DAY_PATTERN % "")
_DATE_TIME: Final = re.compile(_DAY_PATTERN % f"(?:T{_TIME_PATTERN}{_ZONE_PATTERN})?")
_INSTANT: Final = re.compile(
    f"(?!0000)([0-9]{{4}})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T{_TIME_PATTERN}{_ZONE_PATTERN}"
)
_TIME: Final = re.compile(_TIME_PATTERN)
_BASE64_ALPHABET: Final = re.compile(r"[A-Za-z0-9+/=\s]*", re.ASCII)


def json_type(value: object) -> str:
    """How people name the JSON type of a decoded value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float() | Decimal():
            return "a number"
        case list():
            return "an array"
    return "an object"


def shown(text: str) -> str:
    """A value as an error may repeat it: quoted, short, on one line."""
    cut = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return "'" + "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut) + "'"


def _not_a(expected: str, value: object) -> str:
    return f"must be {expected}, not {json_type(value)}"


def check_boolean(value: object) -> Problem:
    if value is True or value is False:
        return None
    return _not_a("true or false", value)


def check_string(value: object) -> Problem:
    if not isinstance(value, str):
        return _not_a("a string", value)
    if not value:
        return "must not be empty; leave it out instead"
    if not value.isprintable() and (control := _CONTROL.search(value)):
        return f"must not contain the control character U+{ord(control[0]):04X}"
    if len(value) > MAX_STRING:
        return f"must have at most {MAX_STRING} characters, not {len(value)}"
    return None


def check_code(value: object) -> Problem:
    """No white space at either end, and none but single spaces inside."""
    problem = check_string(value)
    if problem is None and not _CODE.fullmatch(str(value)):
        return f"must not begin, end or double up with white space: {shown(str(value))}"
    return problem


def check_uri(value: object) -> Problem:
    problem = check_string(value)
    if problem is None and _SPACE.search(str(value)):
        return f"must not contain white space: {shown(str(value))}"
    return problem


def _matches(pattern: re.Pattern[str], expected: str) -> PrimitiveCheck:
    def check(value: object) -> Problem:
        if not isinstance(value, str):
            return _not_a("a string", value)
        if not pattern.fullmatch(value):
            return f"must be {expected}, not {shown(value)}"
        return None

    return check


def _calendar(pattern: re.Pattern[str], expected: str) -> PrimitiveCheck:
    """`pattern` has the groups year, month and day."""
    matches = _matches(pattern, expected)

    def check(value: object) -> Problem:
        found = pattern.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return matches(value)
        year, month, day = found.groups()
        if day is not None and day > "28" and int(day) > monthrange(int(year), int(month))[1]:
            return f"must be a day of the calendar: {year}-{month} has no day {day}"
        return None

    return check


def _integer(low: int, high: int) -> PrimitiveCheck:
    def check(value: object) -> Problem:
        if not isinstance(value, int) or isinstance(value, bool):
            return _not_a("a whole number", value) + _fraction_hint(value)
        if not low <= value <= high:
            return f"must be from {low} to {high}"
        return None

    return check


def _fraction_hint(value: object) -> str:
    return " with a fraction or an exponent" if isinstance(value, Decimal | float) else ""


def check_decimal(value: object) -> Problem:
    """Any number of digits (R4 only recommends at most 18), a bounded exponent."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return _not_a("an exact number", value)
    if isinstance(value, int):
        fits = -_MAX_WHOLE < value < _MAX_WHOLE
    else:
        fits = value.is_finite() and abs(value.adjusted()) <= MAX_EXPONENT
    return (
        None if fits else f"must be finite, with an exponent from -{MAX_EXPONENT} to {MAX_EXPONENT}"
    )


def check_base64(value: object) -> Problem:
    if not isinstance(value, str):
        return _not_a("a string", value)
    try:
        content = _BASE64_ALPHABET.fullmatch(value) and "".join(value.split())
        if content and binascii.a2b_base64(content, strict_mode=True):
            return None
    except binascii.Error:
        pass
    return f"must be base64 (RFC 4648, section 4), not {shown(value)}"


def check_xhtml(value: object) -> Problem:
    if not isinstance(value, str):
        return _not_a("a string of XHTML", value)
    return xhtml_problem(value)


PRIMITIVES: Final[Mapping[str, PrimitiveCheck]] = MappingProxyType(
    {
        "base64Binary": check_base64,
        "boolean": check_boolean,
        "canonical": check_uri,
        "code": check_code,
        "date": _calendar(_DATE, "a date YYYY, YYYY-MM or YYYY-MM-DD"),
        "dateTime": _calendar(
            _DATE_TIME,
            "a dateTime YYYY, YYYY-MM, YYYY-MM-DD or, with seconds and zone, "
            "YYYY-MM-DDThh:mm:ss+zz:zz",
        ),
        "decimal": check_decimal,
        "id": _matches(_ID, "1 to 64 letters, digits, '-' and '.'"),
        "instant": _calendar(_INSTANT, "an instant YYYY-MM-DDThh:mm:ss.sss+zz:zz"),
        "integer": _integer(-(2**31), 2**31 - 1),
        "markdown": check_string,
        "oid": _matches(_OID, "an OID such as urn:oid:1.2.3.4"),
        "positiveInt": _integer(1, 2**31 - 1),
        "string": check_string,
        "time": _matches(_TIME, "a time hh:mm:ss"),
        "unsignedInt": _integer(0, 2**31 - 1),
        "uri": check_uri,
        "url": check_uri,
        "uuid": _matches(_UUID, "a lower-case UUID such as urn:uuid:c757873d-…"),
        "xhtml": check_xhtml,
    }
)
"""The 20 primitive types of R4."""

# What is plainly right -------------------------------------------------------------------------

Accepts = Callable[[str], object]
"""True for a string that is right; what it does not accept may be right all the same.

Asked only of strings of 1 to MAX_STRING characters, and without a Python call of our own: most
values are plain, and the check that can say what is wrong is for the others.
"""

_GRAPHIC: Final = re.compile(r"[!-~]+").fullmatch
_PLAIN_MONTH: Final = r"[1-9][0-9]{3}(?:-(?:0[1-9]|1[0-2]))?"
_PLAIN_DAY: Final = (
    r"[1-9][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
"""Without 29 February, which only some years have."""

ACCEPTED: Final[Mapping[str, Accepts]] = MappingProxyType(
    {
        "canonical": _GRAPHIC,
        "code": _GRAPHIC,
        "date": re.compile(f"{_PLAIN_DAY}|{_PLAIN_MONTH}").fullmatch,
        "dateTime": re.compile(
            f"{_PLAIN_DAY}(?:T{_TIME_PATTERN}{_ZONE_PATTERN})?|{_PLAIN_MONTH}"
        ).fullmatch,
        "id": _ID.fullmatch,
        "markdown": str.isprintable,
        "string": str.isprintable,
        "uri": _GRAPHIC,
        "url": _GRAPHIC,
    }
)
"""By primitive type; those that are seldom met have none."""
