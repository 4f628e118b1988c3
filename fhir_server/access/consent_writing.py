"""Who may give, record and withdraw a consent.

A consent grants only what its giver may give, and is never widened by the one who profits: it is
written by its giver, or by the keyworker who records it as checked with them; how it begins before
there is a keyworker is in `first_consent`. It is withdrawn by its giver, the patient or the
keyworker, at any time, and is never deleted.

Sources: docs/access.md; ages and capacity https://www.legislation.gov.uk/ukpga/2005/9/section/1
(16: presumed), parental responsibility https://www.legislation.gov.uk/ukpga/1989/41/section/3,
review at 13 and end at 16: DAPB3051 use case 7.2.
"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.access.at_hand import gathered
from fhir_server.access.caller import Caller
from fhir_server.access.decision import Decision
from fhir_server.access.facts import kept
from fhir_server.access.facts.parts import ConsentPart
from fhir_server.access.facts.reading import contribution
from fhir_server.access.first_consent import Beginning, beginning_of, may_record
from fhir_server.access.labels import labels_of
from fhir_server.access.own_names import OwnNames
from fhir_server.access.policy import refusal
from fhir_server.access.standing import assessment
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.dates import interval, moment
from fhir_server.search.ast import Chain, Query, ReferenceTo, TokenIn, conjunction, disjunction
from fhir_server.storage.interface import Reader

Side = Mapping[str, Any] | None
_KEYWORKER: Final = (2, 15)
"""While consent stands, and after it has ended."""
_COMPETENT: Final = 7
_AFTER_REVIEW: Final = 10
_PARENT: Final = (8, _AFTER_REVIEW)
_ADULT: Final = 16
_REVIEW: Final = 13
_BACKWARDS: Final = timedelta(days=30)
"""How long ago a decision may have been made that is recorded now."""
_AHEAD: Final = timedelta(minutes=5)
"""Clocks differ."""
_ENDED: Final = ("inactive", "rejected", "entered-in-error")
_MAY_CHANGE: Final = ("status", "extension", "meta", "text", "dateTime", "verification")
"""What a withdrawal may say anew; whom it was for and what it was about stays."""
_EPISODE_STATUS: Final = "http://hl7.org/fhir/episode-of-care-status"
_OPEN_EPISODES: Final = TokenIn(
    "status",
    frozenset((_EPISODE_STATUS, one) for one in ("planned", "waitlist", "active", "onhold")),
)
_LONDON: Final = ZoneInfo("Europe/London")


async def require_consent(
    caller: Caller,
    now: int,
    reader: Reader,
    decision: Decision,
    own: OwnNames,
    old: Side,
    new: Side,
) -> None:
    """Raise unless the caller may make the one consent of the other.

    Raises:
        FhirError: FORBIDDEN.
    """
    if new is None:
        raise refusal("A consent is withdrawn by its status, and never deleted")
    if old is not None and old["patient"] != new["patient"]:
        raise refusal("A consent stays with the patient whom it is about")
    if labels_of(old or new) != labels_of(new) or (old is None and labels_of(new)):
        raise refusal("Whoever writes a consent does not label it")
    patient_id = new["patient"]["reference"].removeprefix("Patient/")
    is_keyworker = decision.row in _KEYWORKER or await _leads(reader, own, patient_id)
    _require_time(old, new, now)
    if old is not None and _is_withdrawal(old, new):
        _require_withdrawer(caller, old, new, patient_id, is_keyworker=is_keyworker)
        return
    beginning = await beginning_of(reader, new, patient_id, now)
    begins = not is_keyworker and old is None
    for_others = begins and _performers(new) != [caller.user]
    if for_others and await may_record(reader, caller, decision, beginning):
        beginning.require_not_over_others(_performers(new))
        is_keyworker = True
    patient = await _read(reader, f"Patient/{patient_id}")
    giving = _Giving(
        reader,
        new,
        patient,
        _age(patient, now),
        decision,
        by_keyworker=is_keyworker,
        beginning=beginning if begins else None,
    )
    if await giving.require(caller, own, old):
        known = await _known_assessment(reader, patient_id, now)
        _require_found_before(new, known)
        if decision.row == _AFTER_REVIEW and known[0] != "not-competent":
            raise refusal("The young person was found competent, and decides")


def _is_withdrawal(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """What was refused is not taken back as an error, and no assessment comes along."""
    reopens = old["status"] in ("inactive", "rejected") and new["status"] == "entered-in-error"
    same = _rest(old) == _rest(new) and _assessments(old) == _assessments(new)
    return new["status"] in _ENDED and same and not reopens


def _assessments(consent: Mapping[str, Any]) -> list[Any]:
    told = consent.get("extension", ())
    return [one for one in told if one.get("url") == canonicals.COMPETENCE_EXTENSION]


def _require_withdrawer(
    caller: Caller,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    patient_id: str,
    *,
    is_keyworker: bool,
) -> None:
    """Raise unless the caller may withdraw the consent, as of the time that it then says.

    Raises:
        FhirError: FORBIDDEN.
    """
    if is_keyworker or caller.user == f"Patient/{patient_id}":
        return
    if not _is_by(caller, old, patient_id):
        raise refusal("A consent is withdrawn by its giver, the patient or the keyworker")
    # A later time would close what others have given since, who may be the ones to decide.
    if old.get("dateTime") != new.get("dateTime"):
        raise refusal("Whoever withdraws what they gave leaves dateTime as it is")


async def _known_assessment(reader: Reader, patient_id: str, now: int) -> tuple[str, int]:
    """The newest that is recorded, and when; '' without one."""
    own = f"Patient/{patient_id}"
    return assessment(gathered(await kept.of_subject(reader, own), own), now) or ("", 0)


def _require_found_before(new: Mapping[str, Any], known: tuple[str, int]) -> None:
    """Raise where a giver tells of an assessment that is not the newest: they make none.

    Raises:
        FhirError: FORBIDDEN.
    """
    told = contribution(dict(new))
    part = told.part if told else None
    if not isinstance(part, ConsentPart) or part.assessed is None:
        return
    if known != (part.outcome, part.assessed):
        raise refusal("Whoever gives a consent does not assess competence: that is recorded before")


def _rest(consent: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in consent.items() if name not in _MAY_CHANGE}


def _is_by(caller: Caller, consent: Mapping[str, Any], patient_id: str) -> bool:
    return caller.user != "" and caller.user in (f"Patient/{patient_id}", *_performers(consent))


def _performers(consent: Mapping[str, Any]) -> list[str]:
    return [str(one.get("reference", "")) for one in consent.get("performer", ())]


class _Giving:
    """A consent that is given, changed or recorded: by whom it may be.

    Args:
        age: of the patient, None where it cannot be told: then nobody may.
        beginning: what is known before a consent that is new; None for a change of one.
    """

    def __init__(
        self,
        reader: Reader,
        consent: Mapping[str, Any],
        patient: Side,
        age: int | None,
        decision: Decision,
        *,
        by_keyworker: bool,
        beginning: Beginning | None,
    ) -> None:
        self._reader = reader
        self._consent = consent
        self._patient = patient
        self._age = -1 if age is None else age
        self._row = decision.row
        self._by_keyworker = by_keyworker
        self._beginning = beginning

    async def require(self, caller: Caller, own: OwnNames, old: Side) -> bool:
        """Whether it is the giver who writes it; raises unless they or who records it may.

        Raises:
            FhirError: FORBIDDEN.
        """
        givers = _performers(self._consent)
        if not givers:
            raise refusal("A consent says who gives it: its performer")
        is_giver = givers == [caller.user] and not self._by_keyworker
        # What somebody else has given or refused is not the caller's to write over.
        is_giver = is_giver and (old is None or _performers(old) == givers)
        if not is_giver:
            self._require_recorder(own, givers)
            if self._age < 0:
                raise refusal("Who may consent for this patient cannot be told: how old are they?")
        for giver in givers:
            # To a stranger, a patient who is not there is as one who is hidden.
            if self._age < 0 or not await self._may_give(giver, by_themselves=is_giver):
                raise refusal(f"{giver} may not give this consent for this patient, or not so")
        return is_giver

    def _require_recorder(self, own: OwnNames, givers: list[str]) -> None:
        """The keyworker records what others decided, as checked with them."""
        if not self._by_keyworker:
            raise refusal("A consent is written by its giver, or recorded by the keyworker")
        if own.persons.issuperset(givers):
            raise refusal("Nobody records a decision that is theirs alone: name who else decided")
        if not any(one.get("verified") is True for one in self._consent.get("verification", ())):
            raise refusal("A consent that is recorded for somebody says with whom it was checked")

    async def _may_give(self, giver: str, *, by_themselves: bool) -> bool:
        kind, _, _ = giver.partition("/")
        match kind:
            case "Patient":
                return self._patient_may(giver, by_themselves=by_themselves)
            case "RelatedPerson":
                return await self._relation_may(giver, by_themselves=by_themselves)
            case "Practitioner" | "PractitionerRole":
                incapable = self._found_about_capacity == "lacks-capacity"
                is_best = self._basis == "best-interest" and self._age >= _ADULT and incapable
                return is_best and not by_themselves
        return False

    def _patient_may(self, giver: str, *, by_themselves: bool) -> bool:
        if giver != self._consent["patient"]["reference"]:
            return False
        if self._basis not in ("consent", "gillick-consent"):
            return False
        if self._age >= _ADULT:
            return self._found_about_capacity != "lacks-capacity"
        if by_themselves:
            return self._row == _COMPETENT  # found before: nobody assesses themselves
        return self._found_about_capacity == "gillick-competent"

    async def _relation_may(self, giver: str, *, by_themselves: bool) -> bool:
        relation = await _read(self._reader, giver)
        if relation is None or relation.get("active") is False:
            return False
        if relation["patient"].get("reference") != self._consent["patient"]["reference"]:
            return False
        if self._basis == "parental-responsibility":
            if self._age >= _ADULT or not _holds_responsibility(relation):
                return False
            if by_themselves:
                first = self._beginning is not None and self._beginning.is_first_of(giver)
                return self._row in _PARENT or first
            return self._age < _REVIEW or bool(self._found_about_capacity)
        is_appointed = self._basis in (
            "health-and-welfare-lasting-power-of-attorney",
            "court-appointed-personal-welfare-deputy",
        )
        return is_appointed and self._age >= _ADULT and not by_themselves

    @property
    def _basis(self) -> str:
        codes = [one.get("code") for one in self._consent["policyRule"].get("coding", ())]
        return str(codes[0]) if len(codes) == 1 else ""

    @property
    def _found_about_capacity(self) -> str:
        """The outcome of the assessment that the consent tells of; '' without one."""
        found = _extension(self._consent, canonicals.COMPETENCE_EXTENSION)
        return next((str(one.get("valueCode", "")) for one in _parts(found, "outcome")), "")


def _holds_responsibility(relation: Mapping[str, Any]) -> bool:
    found = _extension(relation, canonicals.PARENTAL_RESPONSIBILITY_EXTENSION)
    held = any(one.get("valueBoolean") is True for one in _parts(found, "held"))
    return held and any(True for _ in _parts(found, "evidence"))


def _extension(element: Mapping[str, Any], url: str) -> Mapping[str, Any]:
    found = [one for one in element.get("extension", ()) if one.get("url") == url]
    return found[0] if len(found) == 1 else {}


def _parts(extension: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    return (one for one in extension.get("extension", ()) if one.get("url") == name)


def _require_time(old: Side, new: Mapping[str, Any], now: int) -> None:
    """A decision is recorded when it is made, or soon after: never as if long before."""
    told = new.get("dateTime", "")
    if old is not None and old.get("dateTime") == told:
        return
    try:
        low, high = interval(told)
    except ValueError:
        raise refusal("A consent says when it was decided") from None
    today = moment(now)
    if moment(low) > today + _AHEAD or moment(high) < today - _BACKWARDS:
        raise refusal(
            f"The decision of {told} cannot be recorded now: within {_BACKWARDS.days} days it can"
        )


async def _leads(reader: Reader, own: OwnNames, patient_id: str) -> bool:
    """Whether the caller is the care manager of an open involvement, with consent or not yet."""
    persons = tuple(sorted(one for one in own.persons if one.startswith("Practitioner/")))
    if not persons:
        return False
    manages = disjunction(
        ReferenceTo("care-manager", persons),
        Chain(
            "care-manager",
            "PractitionerRole",
            ("PractitionerRole/",),
            ReferenceTo("practitioner", persons),
        ),
    )
    about = ReferenceTo("patient", (f"Patient/{patient_id}",))
    where = conjunction(about, manages, _OPEN_EPISODES)
    return (await reader.total(Query("EpisodeOfCare", where))) > 0


async def _read(reader: Reader, reference: str) -> Side:
    kind, _, resource_id = reference.partition("/")
    found = await reader.read(kind, resource_id)
    return None if found is None or found.deleted else json.decode_resource(found.body)


def _age(patient: Side, now: int) -> int | None:
    """In whole years, on the day in England; None without a whole date of birth."""
    try:
        born = date.fromisoformat((patient or {}).get("birthDate", ""))
    except ValueError:
        return None
    today: datetime = moment(now).astimezone(_LONDON)
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
