"""HL7 v2 messages in vertical bars: taken apart by hl7apy, and answered with an acknowledgement.

Sources: HL7 v2.5.1 chapter 2 (delimiters 2.5.4, escapes 2.7, acknowledgement 2.9.2, character sets
table 0211, error codes table 0357), https://www.hl7.org/implement/standards/product_brief.cfm?product_id=144.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from fhir_server.fhir.dates import LOCAL

MEDIA_TYPE: Final = "x-application/hl7-v2+er7"
VERSIONS: Final = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1")
MOST: Final = 262_144
"""Bytes of a message; an ADT has a few thousand."""
_MOST_SEGMENTS: Final = 500
_ONCE: Final = ("MSH", "EVN", "PID", "PV1")
"""Segments that an ADT has once. More of them are two messages in one, of which one would be lost,
or half of one before the next, with one event and another person."""
_CHARSETS: Final = {
    "": "utf-8",
    "ASCII": "ascii",
    "UNICODE UTF-8": "utf-8",
    "UNICODE": "utf-8",
    **{f"8859/{number}": f"iso8859-{number}" for number in (*range(1, 10), 15)},
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
}
_TIME: Final = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(\d\d)?(\d\d)?(?:\.\d{1,4})?)?)?)?([+-]\d{4})?", re.ASCII
)
_ESCAPE: Final = re.compile(r"\\([FSTRE]|\.br|X(?:[0-9A-Fa-f]{2})+)\\")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
REQUIRED, TYPE, VALUE = "101", "102", "103"
_CODES: Final = {
    "100": "Segment sequence error",
    REQUIRED: "Required field missing",
    TYPE: "Data type error",
    VALUE: "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "207": "Application internal error",
}


class Refused(Exception):
    """Not taken: AE for what it says, AR for what it is. `place` is such as `PID-3`, or ''."""

    def __init__(self, place: str, code: str, text: str, *, rejected: bool = False) -> None:
        super().__init__(text)
        self.place, self.code, self.text = place, code, text
        self.acknowledgement = "AR" if rejected else "AE"


@dataclass(frozen=True, slots=True)
class Header:
    """What an acknowledgement takes over of the message: MSH, as it is written."""

    application: str = ""
    facility: str = ""
    receiver: str = ""
    event: str = ""
    control: str = ""
    processing: str = "P"
    version: str = "2.4"


class Er7:
    """A message; fields are asked for by segment and number."""

    def __init__(self, message: Any, fields: str) -> None:
        self._message = message
        # As MSH-2 has them: component, repetition, escape, subcomponent.
        self._component, self._repetition, self._escape, self._sub = list(fields[:4])

    def repetitions(self, segment: str, number: int) -> list[list[str]]:
        """Each as its components, the first subcomponent of each; no escapes are left."""
        found = getattr(self._message, segment.lower(), None)
        return self._repetitions(found[0], number) if found else []

    def every(self, segment: str, number: int, component: int) -> list[str]:
        """What is told there in each repetition of the field in each such segment."""
        fields = [
            field
            for one in getattr(self._message, segment.lower(), None) or ()
            for field in self._repetitions(one, number)
        ]
        return [one[component - 1] for one in fields if len(one) >= component if one[component - 1]]

    def _repetitions(self, segment: Any, number: int) -> list[list[str]]:
        from hl7apy.exceptions import ChildNotFound

        try:
            fields = getattr(segment, f"{segment.name.lower()}_{number}")
        except ChildNotFound:  # the version of the message has no such field
            return []
        written = [field.to_er7() for field in fields]
        return [self._components(one) for one in written if one and one != '""']

    def parts(self, segment: str, number: int) -> list[str]:
        """Components of the first repetition; [] where there is none."""
        return next(iter(self.repetitions(segment, number)), [])

    def text(self, segment: str, number: int, component: int = 1) -> str:
        """'' where there is none."""
        parts = self.parts(segment, number)
        return parts[component - 1] if len(parts) >= component else ""

    def has(self, segment: str) -> bool:
        return bool(getattr(self._message, segment.lower(), None))

    def _components(self, field: str) -> list[str]:
        return [
            self._unescaped(part.split(self._sub)[0]).strip()
            for part in field.split(self._component)
        ]

    def _unescaped(self, text: str) -> str:
        own = {
            "F": "|",
            "S": self._component,
            "T": self._sub,
            "R": self._repetition,
            "E": self._escape,
            ".br": "\n",
        }
        if self._escape != "\\":
            text = text.replace(self._escape, "\\")

        def meant(found: re.Match[str]) -> str:
            what = found[1]
            return own[what] if what in own else _hexadecimal(what[1:])

        return _CONTROLS.sub("", _ESCAPE.sub(meant, text))


def _hexadecimal(digits: str) -> str:
    return bytes.fromhex(digits).decode("utf-8", "replace")


def read(raw: bytes) -> tuple[Header, Callable[[], Er7]]:
    """The header, and what takes the whole apart.

    Raises:
        Refused: there is no header to answer to; the second raises it for all else.
    """
    first = re.split(rb"[\r\n]", raw, maxsplit=1)[0]
    if not first.startswith(b"MSH") or len(first) < 9:
        raise Refused("MSH", "100", "The message does not begin with a segment MSH", rejected=True)
    fields = _header_fields(first)
    component = fields[1][:1] or "^"
    header = Header(
        application=fields[2],
        facility=fields[3],
        receiver=fields[5],
        event=fields[8].replace(component, "^"),
        control=fields[9],
        processing=fields[10] or "P",
        version=fields[11].split(component)[0],
    )
    return header, lambda: _parsed(raw, header, fields[17])


def _header_fields(first: bytes) -> list[str]:
    """Of MSH, in its own character set where that is known: an acknowledgement says them again.

    What would be taken for the end of a field or of a frame there is left out.
    """
    parts = [*first.split(first[3:4]), *[b""] * 18]
    charset = _CHARSETS.get(_charset_name(parts[17].decode("ascii", "replace")), "utf-8")
    texts = (part.decode(charset, "replace") for part in parts)
    return [_CONTROLS.sub("", text).replace("|", "") for text in texts]


def _parsed(raw: bytes, header: Header, charset: str) -> Er7:
    if len(raw) > MOST:
        raise Refused("MSH", TYPE, f"A message has up to {MOST} bytes", rejected=True)
    if header.version not in VERSIONS:
        text = f"The version is '{header.version[:20]}'; {', '.join(VERSIONS)} are allowed"
        raise Refused("MSH-12", "203", text, rejected=True)
    text = re.sub(r"\r\n|\n", "\r", _decoded(raw, charset)).strip("\r") + "\r"
    if text.count("\r") > _MOST_SEGMENTS:
        raise Refused("MSH", "100", f"A message has up to {_MOST_SEGMENTS} segments", rejected=True)
    if text[3] != "|" or len(text.split("|")[1]) not in (4, 5):
        raise Refused("MSH-2", VALUE, "The delimiters are not | and four others such as ^~\\&")
    _require_one(text)
    from hl7apy.exceptions import HL7apyException  # by the first message: few servers are sent any
    from hl7apy.parser import parse_message

    try:
        return Er7(parse_message(text, find_groups=False), text[4:8])
    except (HL7apyException, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        said = _CONTROLS.sub("", str(error))[:120]
        raise Refused("", "100", f"The message cannot be taken apart: {said}") from error


def _require_one(text: str) -> None:
    names = [re.split(r"\W", _CONTROLS.sub("", line), maxsplit=1)[0] for line in text.split("\r")]
    for name in _ONCE:
        if names.count(name) > 1:
            said = f"There is more than one segment {name}: a message holds one ADT"
            raise Refused(name, "100", said)


def _charset_name(charset: str) -> str:
    return charset.split("~")[0].strip().upper()


def _decoded(raw: bytes, charset: str) -> str:
    name = _charset_name(charset)
    if name not in _CHARSETS:
        known = ", ".join(sorted(filter(None, _CHARSETS)))
        raise Refused("MSH-18", VALUE, f"The character set '{name[:40]}' is not one of {known}")
    try:
        return raw.decode(_CHARSETS[name])
    except UnicodeDecodeError as error:
        text = f"Byte {error.start + 1} is not {_CHARSETS[name]}; MSH-18 names the character set"
        raise Refused("MSH-18", TYPE, text) from error


def time_of(text: str, place: str) -> str:
    """As FHIR has it, as exactly as it is written; local time is Europe/London's. '' for ''.

    Raises:
        Refused: it is no time.
    """
    if not text:
        return ""
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        *numbers, zone = found.groups()
        whole = [int(number) for number in numbers if number is not None]
        at = datetime(*[*whole, *(1, 1)[len(whole) - 1 :]], tzinfo=_zone(zone))  # type: ignore[arg-type, misc]
        if len(whole) > 3:
            return at.isoformat(timespec="seconds")
        return "-".join(f"{number:02}" for number in whole)
    except ValueError as error:
        said = f"'{text[:40]}' is no time; such as 20260501101500+0100 is expected"
        raise Refused(place, TYPE, said) from error


def _zone(offset: str | None) -> Any:
    if offset is None:
        return LOCAL
    hours, minutes = int(offset[1:3]), int(offset[3:])
    away = timedelta(hours=hours, minutes=minutes)
    return timezone(-away if offset[0] == "-" else away)


def acknowledgement(
    header: Header, code: str, now: datetime, said: str, refused: Sequence[Refused] = ()
) -> bytes:
    """ACK with code AA, AE or AR; `said` is in MSA-3."""
    stamp = now.astimezone(LOCAL).strftime("%Y%m%d%H%M%S%z")
    event = header.event.split("^")[1] if "^" in header.event else ""
    version = header.version if header.version in VERSIONS else "2.4"
    kind = f"ACK^{event}^ACK" if event else "ACK"
    segments = [
        f"MSH|^~\\&|KEYWORKING|{header.receiver}|{header.application}|{header.facility}|{stamp}||"
        f"{kind}|{header.control}|{header.processing}|{version}|||||GBR|UNICODE UTF-8",
        f"MSA|{code}|{header.control}|{_escaped(said)}",
        *(_error(one, version) for one in refused),
    ]
    return "".join(f"{segment}\r" for segment in segments).encode()


def _error(refused: Refused, version: str) -> str:
    """ERR as v2.5 has it, and as it was before."""
    segment, _, field = refused.place.partition("-")
    place = f"{segment}^1^{field}" if field else segment
    if version.startswith("2.5"):
        meaning = f"{refused.code}^{_CODES[refused.code]}^HL70357"
        return f"ERR||{place}|{meaning}|E||||{_escaped(refused.text)}"
    code = f"{refused.code}&{_CODES[refused.code]}&HL70357"
    return f"ERR|{place}{'^' * (3 - place.count('^'))}{code}"


def _escaped(text: str) -> str:
    pairs = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
    plain = _CONTROLS.sub("", " ".join(text.split()))
    return "".join(pairs.get(letter, letter) for letter in plain)
