"""What a Subscription asks for, read and checked.

https://hl7.org/fhir/R4/subscription.html with the elements of the backport of topics,
https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/components.html. Criteria that are one of
the service's topics watch for its events; any other are those of a search.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from fhir_server.errors import FhirError, Kind
from fhir_server.events.topics import BY_URL, FILTER_TYPES, FILTERS, TOPICS
from fhir_server.fhir import canonicals
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative

REST_HOOK: Final = "rest-hook"
WEBSOCKET: Final = "websocket"
INBOX: Final = "inbox"
INBOX_SYSTEM: Final = f"{canonicals.KW}/subscription-channel"
CONTENTS: Final = ("empty", "id-only", "full-resource")
JSON_TYPES: Final = ("application/fhir+json", "application/json")
XML_TYPES: Final = ("application/fhir+xml", "application/xml")
MOST_EVENTS: Final = 20
"""Of one notice, where the subscription asks for no fewer."""
_MOST_HEADERS: Final = 20
_MOST_HEADER: Final = 8192
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\x20-\x7e]*)", re.ASCII)
"""https://www.rfc-editor.org/rfc/rfc9110#section-5.5"""
_OURS: Final = frozenset(
    {
        *("accept-encoding", "connection", "content-encoding", "content-length", "content-type"),
        *("expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_SHORTEST_BEAT: Final = 5
KEPT: Final = "(kept secret)"
"""What an answer shows in the place of a header's value."""
_CHANNEL: Final = "Subscription.channel"


@dataclass(frozen=True, slots=True)
class Asked:
    """Seconds are 0 where they are left to the server."""

    topic: str
    """The code of a topic; '' where `criteria` are those of a search."""
    criteria: str
    filters: tuple[tuple[str, str], ...]
    channel: str
    endpoint: str = ""
    headers: tuple[str, ...] = ()
    payload: bool = False
    xml: bool = False
    """Whether what is sent is XML; else it is JSON."""
    content: str = ""
    """empty, id-only or full-resource; '' for notices as plain R4 has them."""
    heartbeat: int = 0
    timeout: int = 0
    max_count: int = MOST_EVENTS

    @property
    def is_plain(self) -> bool:
        """Whether notices are those of R4 itself, without Bundles and numbers."""
        return not self.content

    @property
    def resource_type(self) -> str:
        return self.criteria.partition("?")[0]

    @property
    def at_once(self) -> int:
        """Events of one notice."""
        return 1 if self.is_plain else self.max_count

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Asked":
        filters = tuple((name, value) for name, value in told["filters"])
        return cls(**{**told, "filters": filters, "headers": tuple(told["headers"])})


def read_asked(resource: Resource, known: Collection[str] = ()) -> Asked:
    """What the Subscription asks for.

    Args:
        known: the headers that are kept, for those whose value is not told again.

    Raises:
        FhirError: UNSUPPORTED, INVALID, with the place.
    """
    channel = resource["channel"]
    kind = _channel(channel)
    criteria = str(resource["criteria"])
    topic = BY_URL.get(criteria)
    if topic is None:
        _require_search(criteria)
    return Asked(
        topic=topic.code if topic else "",
        criteria="" if topic else criteria,
        filters=_filters(resource, topic.code if topic else ""),
        channel=kind,
        endpoint=_endpoint(channel, kind),
        headers=_headers(channel, kind, known),
        payload="payload" in channel,
        xml=_is_xml(channel),
        content=_content(channel, kind, is_topic=topic is not None),
        heartbeat=_heartbeat(channel, kind),
        timeout=_number(channel, "timeout"),
        max_count=min(_number(channel, "max-count") or MOST_EVENTS, MOST_EVENTS),
    )


def _extensions(element: Any, name: str) -> list[Mapping[str, Any]]:
    url = f"{canonicals.BACKPORT}/StructureDefinition/backport-{name}"
    listed = element.get("extension", ()) if isinstance(element, dict) else ()
    return [one for one in listed if one.get("url") == url]


def _channel(channel: Resource) -> str:
    """The backport names channels beyond those of R4 by an extension of the type."""
    custom = _extensions(channel.get("_type"), "channel-type")
    if custom:
        coding = custom[0].get("valueCoding", {})
        if (coding.get("system"), coding.get("code")) == (INBOX_SYSTEM, INBOX):
            return INBOX
        text = f"The channel {coding.get('code')!r} is not known; {INBOX_SYSTEM}|{INBOX} is"
        raise FhirError.at(Kind.UNSUPPORTED, f"{_CHANNEL}.type", text)
    kind = channel["type"]
    if kind not in (REST_HOOK, WEBSOCKET):
        raise FhirError.at(
            Kind.UNSUPPORTED,
            f"{_CHANNEL}.type",
            f"The channel '{kind}' is not supported; {REST_HOOK}, {WEBSOCKET} and, as the "
            f"extension backport-channel-type, {INBOX_SYSTEM}|{INBOX} are",
        )
    return str(kind)


def _require_search(criteria: str) -> None:
    """Raise for what is neither a topic nor criteria of a type; what they mean is read later."""
    name, mark, query = criteria.partition("?")
    if is_resource_type(name) and mark and query:
        return
    raise FhirError.at(
        Kind.UNSUPPORTED,
        "Subscription.criteria",
        f"'{criteria[:200]}' is neither a topic nor criteria such as Flag?status=active; the "
        f"topics are {', '.join(BY_URL)}",
    )


def _filters(resource: Resource, topic: str) -> tuple[tuple[str, str], ...]:
    """`[type]?[name]=[value]` or `[name]=[value]`, each of which has to hold."""
    found: list[tuple[str, str]] = []
    for one in _extensions(resource.get("_criteria"), "filter-criteria"):
        text = str(one.get("valueString", ""))
        if not topic:
            raise _bad_filter(text, "filters are those of a topic; criteria have their own")
        name, mark, query = text.partition("?")
        if mark and name not in TOPICS[topic].types:
            raise _bad_filter(text, f"types of this topic: {', '.join(TOPICS[topic].types)}")
        found.extend(_pairs(text, query if mark else text))
    return tuple(found)


def _pairs(text: str, query: str) -> list[tuple[str, str]]:
    pairs = parse_qsl(query, keep_blank_values=True)
    for name, value in pairs:
        fits = name in FILTERS and all(_may_be(name, one) for one in value.split(","))
        if not fits:
            allowed = "; ".join(f"{one}, {what}" for one, what in FILTERS.items())
            raise _bad_filter(text, f"filters with a value: {allowed}")
    if not pairs:
        raise _bad_filter(text, "it says nothing")
    return pairs


def _may_be(name: str, value: str) -> bool:
    """Whether anybody could be meant: what never fits would be a subscription that never tells."""
    kind, slash, _ = value.rpartition("/")
    if not slash:
        return bool(value)
    return kind in FILTER_TYPES[name] and parse_relative(value) is not None


def _bad_filter(text: str, why: str) -> FhirError:
    place = "Subscription.criteria.extension"
    return FhirError.at(Kind.INVALID, place, f"The filter '{text[:200]}' cannot be used: {why}")


def _endpoint(channel: Resource, kind: str) -> str:
    endpoint = str(channel.get("endpoint", ""))
    if kind == REST_HOOK and not endpoint:
        text = "A rest-hook needs the address where notices go"
        raise FhirError.at(Kind.INVALID, f"{_CHANNEL}.endpoint", text)
    if kind != REST_HOOK and endpoint:
        text = f"The channel {kind} has no endpoint; only {REST_HOOK} has one"
        raise FhirError.at(Kind.INVALID, f"{_CHANNEL}.endpoint", text)
    return endpoint


def _headers(channel: Resource, kind: str, known: Collection[str]) -> tuple[str, ...]:
    told = channel.get("header", ())
    place = f"{_CHANNEL}.header"
    if told and kind != REST_HOOK:
        raise FhirError.at(Kind.INVALID, place, f"Only {REST_HOOK} has headers")
    if len(told) > _MOST_HEADERS or sum(map(len, told)) > _MOST_HEADER:
        text = f"At most {_MOST_HEADERS} headers of {_MOST_HEADER} characters together are sent"
        raise FhirError.at(Kind.INVALID, place, text)
    return tuple(_header(text, f"{place}[{number}]", known) for number, text in enumerate(told))


def _header(text: str, place: str, known: Collection[str]) -> str:
    found = _HEADER.fullmatch(text)
    if found is None or found[1].lower() in _OURS:
        # Of the text nothing is told: it may be the secret itself.
        raise FhirError.at(
            Kind.INVALID,
            place,
            "This is no header 'Name: value' that can be sent; the server itself sends "
            f"{', '.join(sorted(_OURS))}",
        )
    if found[2] != KEPT:
        return text
    kept = [one for one in known if one.partition(":")[0] == found[1]]
    if not kept:
        text = f"The value of {found[1]} is not known yet; give it once"
        raise FhirError.at(Kind.INVALID, place, text)
    return kept[0]


def shown_header(text: str) -> str:
    """What an answer tells of a header."""
    return f"{text.partition(':')[0]}: {KEPT}"


def _is_xml(channel: Resource) -> bool:
    told = str(channel.get("payload", JSON_TYPES[0]))
    payload = unquote(told).partition(";")[0].strip()
    if payload not in (*JSON_TYPES, *XML_TYPES):
        allowed = " and ".join((*JSON_TYPES, *XML_TYPES))
        raise FhirError.at(
            Kind.UNSUPPORTED,
            f"{_CHANNEL}.payload",
            f"'{told}' is not supported; {allowed} are, or none for notices without content",
        )
    return payload in XML_TYPES


def _content(channel: Resource, kind: str, *, is_topic: bool) -> str:
    told = _extensions(channel.get("_payload"), "payload-content")
    content = str(told[0].get("valueCode", "")) if told else ""
    if told and content not in CONTENTS:
        text = f"The content '{content}' is not known; {', '.join(CONTENTS)} are"
        raise FhirError.at(Kind.INVALID, f"{_CHANNEL}.payload.extension", text)
    if kind == INBOX:
        return "id-only"
    return content or ("empty" if is_topic else "")


def _heartbeat(channel: Resource, kind: str) -> int:
    seconds = _number(channel, "heartbeat-period")
    if seconds and (kind == INBOX or seconds < _SHORTEST_BEAT):
        text = f"A heartbeat of {seconds} seconds on {kind}: at least {_SHORTEST_BEAT}, no inbox"
        raise FhirError.at(Kind.INVALID, f"{_CHANNEL}.extension", text)
    return seconds


def _number(channel: Resource, name: str) -> int:
    for one in _extensions(channel, name):
        for value in (one.get("valueUnsignedInt"), one.get("valuePositiveInt")):
            if isinstance(value, int) and value > 0:
                return value
    return 0
