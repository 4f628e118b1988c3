"""$validate-code: whether codes are codes of a system, or in a value set.

https://hl7.org/fhir/R4/valueset-operation-validate-code.html,
https://hl7.org/fhir/R4/codesystem-operation-validate-code.html
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fhir_operations._terms import Coding, Part, not_checkable, parameters
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import Resource
from fhir_server.terminology.elements import items, text
from fhir_server.terminology.membership import Verdict, is_code, is_member
from fhir_server.terminology.service import Terminology


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one coding."""

    verdict: Verdict
    message: str
    display: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What codes are checked against: a value set, or their code system alone."""

    service: Terminology
    value_set: str | None
    abstract: bool

    async def answer(self, codings: Sequence[Coding]) -> Resource:
        """One that is right is enough; what is not known counts where none is.

        Raises:
            FhirError: BUSINESS_RULE where it cannot be said; UNAVAILABLE.
        """
        checked = [await self._checked(one) for one in codings]
        right = [one for one in checked if one.verdict is Verdict.YES]
        if not right and any(one.verdict is Verdict.UNKNOWN for one in checked):
            raise not_checkable(f"Whether {_listed(codings)} is right")
        told = right[0] if right else checked[0]
        message = told.message if right else "; ".join(one.message for one in checked)
        return parameters(
            {"name": "result", "valueBoolean": bool(right)},
            {"name": "message", "valueString": message} if message else None,
            {"name": "display", "valueString": told.display} if told.display else None,
        )

    async def _checked(self, coding: Coding) -> Checked:
        needed = [("CodeSystem", coding.canonical), ("CodeSystem", coding.system)]
        if self.value_set is not None:
            needed.append(("ValueSet", self.value_set))
        await self.service.gather(*needed, every_system=True)
        found = self._here(coding)
        if found.verdict is Verdict.UNKNOWN and self.service.outside is not None:
            return await self._outside(coding)
        return found

    def _here(self, coding: Coding) -> Checked:
        catalogue = self.service.catalogue
        of_system = is_code(catalogue, coding.canonical, coding.code)
        if of_system is Verdict.NO:
            return Checked(of_system, f"'{coding.code}' is not a code of {coding.canonical}")
        if self.value_set is None:
            return self._of_system(coding) if of_system is Verdict.YES else Checked(of_system, "")
        code = self._spelt(coding)
        verdict = is_member(catalogue, self.value_set, coding.system, code)
        if verdict is Verdict.NO:
            text = f"'{coding.code}' of {coding.system} is not in the value set {self.value_set}"
            return Checked(verdict, text)
        return self._of_system(coding) if verdict is Verdict.YES else Checked(verdict, "")

    def _spelt(self, coding: Coding) -> str:
        held = self.service.catalogue.code_system(coding.canonical)
        return (held.system.spelt(coding.code) if held else None) or coding.code

    def _of_system(self, coding: Coding) -> Checked:
        """Of a code that is there: whether it may be used, and is called like that."""
        held = self.service.catalogue.code_system(coding.canonical)
        code = self._spelt(coding)
        names = self._names(coding, code)
        display = names[0] if names else ""
        if held is not None and code in held.system.abstract and not self.abstract:
            return Checked(Verdict.NO, f"'{code}' only groups other codes (abstract)", display)
        if coding.display and names and _plain(coding.display) not in map(_plain, names):
            allowed = ", ".join(f"'{name}'" for name in names[:10])
            text = f"The display '{coding.display}' is not one of '{code}': {allowed}"
            return Checked(Verdict.NO, text, display)
        if held is not None and code in held.system.inactive:
            return Checked(Verdict.YES, f"'{code}' is not in use any more (inactive)", display)
        if coding.display and not names:
            return Checked(Verdict.YES, f"The display of '{code}' is not known here")
        return Checked(Verdict.YES, "", display)

    def _names(self, coding: Coding, code: str) -> list[str]:
        """The display of the code system first, then whatever else it is called."""
        held = self.service.catalogue.code_system(coding.canonical)
        concept = held.system.concepts.get(code) if held else None
        found = [text(concept, "display")]
        found += [text(one, "value") for one in items(concept, "designation")]
        listing = self.service.catalogue.value_set(self.value_set) if self.value_set else None
        for part in items((listing.resource if listing else {}).get("compose"), "include"):
            if text(part, "system") == coding.system:
                for one in items(part, "concept"):
                    if text(one, "code") == code:
                        found += [text(one, "display")]
                        found += [text(two, "value") for two in items(one, "designation")]
        return list(dict.fromkeys(filter(None, found)))

    async def _outside(self, coding: Coding) -> Checked:
        outside = self.service.outside
        assert outside is not None  # noqa: S101 - whoever asks looked
        if self.value_set is None:
            told = ({"name": "url", "valueUri": coding.system}, *coding.parameters)
            answer = await outside.ask(
                "CodeSystem/$validate-code", *(one for one in told if one["name"] != "system")
            )
        else:
            held = self.service.catalogue.value_set(self.value_set)
            what: Part = (
                {"name": "valueSet", "resource": held.resource}
                if held
                else {"name": "url", "valueUri": self.value_set}
            )
            answer = await outside.ask("ValueSet/$validate-code", what, *coding.parameters)
        told_back = {text(one, "name"): one for one in items(answer, "parameter")}
        result = told_back.get("result", {}).get("valueBoolean")
        if not isinstance(result, bool):
            raise FhirError(Kind.UNSUPPORTED, "The terminology server's answer has no result")
        return Checked(
            Verdict.of(result),
            text(told_back.get("message"), "valueString"),
            text(told_back.get("display"), "valueString"),
        )


def _plain(display: str) -> str:
    return " ".join(display.casefold().split())


def _listed(codings: Sequence[Coding]) -> str:
    return ", ".join(f"'{one.code}' of {one.canonical}" for one in codings[:5])
