"""What may happen in stays, told in each of the shapes in which senders tell it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from tests.operations.chart import code_of
from tests.operations.messages import JSON, Spell, changed, detained, notification, part

NOW: Final = datetime.now(LOCAL).replace(microsecond=0)
ADMITTED: Final = NOW - timedelta(days=20)
V2_LEGAL_STATUS: Final = "ZMH-1"
"""Where these senders tell it in HL7 v2."""
_SPELL: Final = f"{canonicals.KW}/NamingSystem/hl7v2/ZZK03/VN"
"""Of the numbers of stays, as `$process-adt` names it."""
_TIME: Final = "%Y%m%d%H%M%S%z"
_DAVINCI: Final = {
    "A01": "notification-admit",
    "A02": "notification-transfer",
    "A03": "notification-discharge",
}


def told(sent: JSON, days: float) -> JSON:
    """The message as it was sent so long after the admission."""
    return {**sent, "timestamp": (ADMITTED + timedelta(days=days)).isoformat()}


def ward(name: str) -> list[JSON]:
    return [{"location": {"display": name}}]


def course(stay: Spell) -> list[JSON]:
    """What may happen in a stay, in its order; all of it may be left out but the admission."""
    home = ADMITTED + timedelta(days=17)
    return [
        told(stay.preadmit(), -1),
        told(stay.admit(), 0),
        told(stay.update(extension=[detained("03")]), 1),
        told(stay.transfer(location=ward("Swift")), 2),
        told(stay.transfer(location=ward("Swallow")), 3),
        told(stay.event("A12", "in-progress", location=ward("Swift")), 4),
        told(stay.event("A21", "onleave", location=ward("Swallow")), 5),
        told(stay.event("A22", "in-progress", location=ward("Swallow")), 6),
        told(stay.update(location=ward("Lark"), extension=None), 7),
        told(stay.discharge(ADMITTED + timedelta(days=9)), 9),
        told(stay.event("A13", "in-progress", location=ward("Lark")), 10),
        told(stay.update(location=ward("Wren")), 11),
        told(stay.discharge(home), 17),
        told(stay.discharge(home, to="84"), 17.5),
        told(stay.discharge(home, to="79", method="4"), 18),
        told(stay.event("A11", "entered-in-error"), 19),
    ]


def course_again(nhs_number: str) -> list[JSON]:
    """What may happen in another stay, which begins after the first has ended."""
    stay = Spell(nhs_number, ADMITTED + timedelta(days=17.6), "again")
    home = ADMITTED + timedelta(days=18.6)
    return [
        told(stay.admit(), 17.6),
        told(stay.transfer(location=ward("Swift")), 17.8),
        told(stay.event("A21", "onleave", location=ward("Swift")), 18),
        told(stay.event("A22", "in-progress", location=ward("Swift")), 18.2),
        told(stay.discharge(home), 18.6),
        told(stay.event("A13", "in-progress", location=ward("Swift")), 18.8),
        told(stay.event("A11", "entered-in-error"), 19.5),
    ]


def course_at_last(nhs_number: str) -> list[JSON]:
    """And in a third, to which the second may have led."""
    stay = Spell(nhs_number, ADMITTED + timedelta(days=19.6), "at last")
    home = ADMITTED + timedelta(days=19.8)
    return [
        told(stay.preadmit(), 18.7),
        told(stay.admit(), 19.6),
        told(stay.discharge(home, to="53"), 19.8),
        told(stay.discharge(home), 19.85),
        told(stay.event("A11", "cancelled"), 19.9),
        told(stay.event("A04", "in-progress"), 19.92),
    ]


def courses(nhs_number: str) -> list[JSON]:
    """Of all three stays."""
    first = course(Spell(nhs_number, ADMITTED, "spell"))
    return [*first, *course_again(nhs_number), *course_at_last(nhs_number)]


@dataclass(frozen=True, slots=True)
class Manner:
    """How a sender tells of an event."""

    shape: str = "nhs"
    """`nhs`, `davinci` or `v2`."""
    statuses: tuple[str, ...] | None = None
    """Legal statuses that are told, codes or not; None for those of the course."""

    def dress(self, sent: JSON) -> JSON:
        """The message in FHIR; one that has no Da Vinci notification stays NHS England's."""
        stay = part(sent, 1)
        dressed = changed(sent, 1, identifier=[{**stay["identifier"][0], "system": _SPELL}])
        if self.statuses is not None:
            others = [one for one in stay.get("extension", ()) if not _is_legal(one)]
            dressed = changed(
                dressed, 1, extension=[*others, *map(detained, self.statuses)] or None
            )
        event = _DAVINCI.get(trigger_of(sent)) if self.shape == "davinci" else None
        return dressed if event is None else notification(event, dressed)


def trigger_of(sent: JSON) -> str:
    return code_of(part(sent, 0)["reason"])


def as_v2(sent: JSON) -> str:
    """A message in NHS England's shape as the ADT that says the same; a visit is told as news."""
    event, stay, young_person = trigger_of(sent), part(sent, 1), part(sent, 2)
    event = "A08" if event == "A04" else event  # which $process-adt does not take
    visit = [*[""] * 46]
    visit[0], visit[2], visit[4] = "PV1", "P" if stay["status"] == "planned" else "I", "25"
    visit[3] = stay.get("location", ward(""))[0]["location"]["display"]
    visit[19], visit[44] = stay["identifier"][0]["value"] + "^^^ZZK03^VN", _stamp(stay, "start")
    if stay["status"] == "finished":
        visit[45], visit[37] = (
            _stamp(stay, "end"),
            code_of(stay["hospitalization"]["dischargeDisposition"]),
        )
        visit[36] = _method(stay)
    at = datetime.fromisoformat(sent["timestamp"]).strftime(_TIME)
    number = young_person["identifier"][0]["value"]
    control = sent["identifier"]["value"]
    rows = [
        f"MSH|^~\\&|PAS|ZZK03|KW|X99|{at}||ADT^{event}|{control}|P|2.4||||||UNICODE UTF-8",
        f"EVN|{event}|{at}",
        f"PID|1||{number}^^^NHS^NH||Alder^Sam||20100514",
        "|".join(visit),
        f"ZMH|{'~'.join(_legal_statuses(stay))}",
    ]
    return "\r".join([*rows, ""])


def _is_legal(extension: JSON) -> bool:
    return bool(extension["url"] == canonicals.LEGAL_STATUS_EXTENSION)


def _legal_statuses(stay: JSON) -> list[str]:
    told = [one for one in stay.get("extension", ()) if _is_legal(one)]
    return [code_of(one["extension"][1]["valueCodeableConcept"]) for one in told]


def _method(stay: JSON) -> str:
    (found,) = [one for one in stay["extension"] if not _is_legal(one)]
    return code_of(found["valueCodeableConcept"])


def _stamp(stay: JSON, name: str) -> str:
    return datetime.fromisoformat(stay["period"][name]).strftime(_TIME)
