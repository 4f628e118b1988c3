"""Open questions of a check, put to the terminology service: is a code in a value set?

What is stored and may be read is looked at, then the terminology server of the settings is asked.
A required binding that nobody can decide is a warning, an extensible one information: nothing is
refused because a list of codes is elsewhere.
Source: https://hl7.org/fhir/R4/terminologies.html#strength
"""

from collections.abc import Iterable
from time import monotonic
from typing import Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.terminology import membership
from fhir_server.terminology.checking import Checker, Coding
from fhir_server.terminology.membership import Verdict, some
from fhir_server.terminology.names import is_called, names_of
from fhir_server.terminology.service import Terminology
from fhir_server.validation.codes import Called
from fhir_server.validation.displays import display_issue
from fhir_server.validation.profiles.bindings import listed, severity_of, wanted
from fhir_server.validation.report import Question

_MOST: Final = 200
"""Codes of one request that are asked about."""
_PATIENCE: Final = 10.0
"""Seconds after which no further code of a request is asked about."""
_MOST_SYSTEMS: Final = 10
"""Code systems that are gone through for a code that names none."""
_Codings = tuple[tuple[str, str], ...]


class Settler:
    """Answers the open questions of one request, each once."""

    def __init__(self, terminology: Terminology) -> None:
        terminology.catalogue.by_form = True
        self._service = terminology
        self._verdicts: dict[tuple[str, str, str], Verdict] = {}
        self._until = monotonic() + _PATIENCE

    async def issues(self, questions: Iterable[Question]) -> list[Issue]:
        """What the answers come to; nothing for a code that is in its value set.

        A code system that was looked at for that also says what its codes are called.
        """
        found: list[Issue | None] = []
        for question in questions:
            found.append(await self._issue(question))
            found += [self._misnamed(one, question) for one in question.called]
        return list(dict.fromkeys(issue for issue in found if issue is not None))

    def _misnamed(self, called: Called, question: Question) -> Issue | None:
        held = self._service.catalogue.code_system(called.system)
        code = held.system.spelt(called.code) if held else None
        names = names_of(held, code) if code else []
        if not names or is_called(called.display, names):
            return None
        return display_issue(called, names, f"{question.expression}{called.path}")

    async def _issue(self, question: Question) -> Issue | None:
        match await self._answer(question.value_set, question.codings):
            case Verdict.YES:
                return None
            case Verdict.UNKNOWN:
                return _unsettled(question)
            case Verdict.NO:
                return self._refused(question)

    async def _answer(self, value_set: str, codings: _Codings) -> Verdict:
        """Yes where one of them is in it."""
        found: list[Verdict] = []
        for system, code in codings:
            found.append(await self._known(value_set, system, code))
            if found[-1] is Verdict.YES:
                break
        return some(found)

    async def _known(self, value_set: str, system: str, code: str) -> Verdict:
        key = (value_set, system, code)
        if key not in self._verdicts:
            if len(self._verdicts) >= _MOST or monotonic() > self._until:
                return Verdict.UNKNOWN
            self._verdicts[key] = await self._asked(value_set, system, code)
        return self._verdicts[key]

    async def _asked(self, value_set: str, system: str, code: str) -> Verdict:
        try:
            systems = [system] if system else await self._systems(value_set)
            checker = Checker(self._service, value_set, abstract=True)
            codings = [Coding(one, "", code, "", "") for one in systems]
            return some([(await checker.check(one)).verdict for one in codings])
        except FhirError as error:
            if error.kind is Kind.UNAVAILABLE and self._service.outside is None:
                raise  # it is the store that cannot be read
            return Verdict.UNKNOWN

    async def _systems(self, value_set: str) -> list[str]:
        """Of a `code` alone, which is one of whatever system the value set has."""
        await self._service.gather(("ValueSet", value_set))
        found = membership.systems_of(self._service.catalogue, value_set)
        if "" in found or len(found) > _MOST_SYSTEMS:
            raise FhirError(Kind.UNSUPPORTED, f"Of which systems {value_set} is, is not known")
        return found

    def _refused(self, question: Question) -> Issue:
        systems = membership.systems_of(self._service.catalogue, question.value_set)
        severity = severity_of(question.strength, question.codings, systems)
        text = wanted(question.strength, question.value_set, question.codings)
        return Issue(
            text, question.expression, "code-invalid", severity, "binding", question.profile
        )


def _unsettled(question: Question) -> Issue:
    severity = "warning" if question.strength == "required" else "information"
    text = f"whether {listed(question.codings)} is in {question.value_set} could not be checked"
    return Issue(text, question.expression, "incomplete", severity, "binding", question.profile)
