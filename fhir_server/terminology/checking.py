"""Whether a code is one of a code system, or in a value set, and is called what it is said to be.

Sources: https://hl7.org/fhir/R4/valueset-operation-validate-code.html,
https://hl7.org/fhir/R4/codesystem-operation-validate-code.html. What is not known here is asked of
the other terminology server, where there is one.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fhir_server.errors import FhirError, Kind
from fhir_server.terminology.elements import items, text
from fhir_server.terminology.membership import Verdict, is_code, is_member
from fhir_server.terminology.names import called, is_called, misnamed, names_of
from fhir_server.terminology.service import Terminology


@dataclass(frozen=True, slots=True)
class Coding:
    """A code that is asked about; `place` says where it stands in the question."""

    system: str
    version: str
    code: str
    display: str
    place: str

    @property
    def canonical(self) -> str:
        """The system with its version, where one is named."""
        return f"{self.system}|{self.version}" if self.version else self.system

    @property
    def parameters(self) -> tuple[dict[str, Any], ...]:
        """As another terminology server is asked about it."""
        told = [("code", "valueCode", self.code), ("system", "valueUri", self.system)]
        told += [("display", "valueString", self.display)] if self.display else []
        return tuple({"name": name, kind: value} for name, kind, value in told)


def coding_of(node: Mapping[str, Any], system: str, place: str) -> Coding:
    """A Coding; `system` is that of one without."""
    return Coding(
        text(node, "system") or system,
        text(node, "version"),
        text(node, "code"),
        text(node, "display"),
        place,
    )


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one coding."""

    verdict: Verdict
    message: str
    display: str = ""


@dataclass(frozen=True, slots=True)
class Checker:
    """Checks codes against a value set, or against their code system alone.

    `abstract` says that codes that only group others will do.
    """

    service: Terminology
    value_set: str | None
    abstract: bool

    async def check(self, coding: Coding) -> Checked:
        """What can be said of the code.

        Raises:
            FhirError: INVALID or TOO_COSTLY for a value set that cannot be put together;
                UNAVAILABLE or UNSUPPORTED where the other terminology server does not say.
        """
        needed = [("CodeSystem", coding.canonical), ("CodeSystem", coding.system)]
        if self.value_set is not None:
            needed.append(("ValueSet", self.value_set))
        await self.service.gather(*needed, every_system=True)
        # Beside the loop: a value set may list a hundred thousand codes.
        found = await asyncio.to_thread(self._here, coding)
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
        if coding.display and names and not is_called(coding.display, names):
            return Checked(Verdict.NO, misnamed(coding.display, code, names), display)
        if held is not None and code in held.system.inactive:
            return Checked(Verdict.YES, f"'{code}' is not in use any more (inactive)", display)
        if coding.display and not names:
            return Checked(Verdict.YES, f"The display of '{code}' is not known here")
        return Checked(Verdict.YES, "", display)

    def _names(self, coding: Coding, code: str) -> list[str]:
        """The display of the code system first, then whatever else it is called."""
        found = names_of(self.service.catalogue.code_system(coding.canonical), code)
        listing = self.service.catalogue.value_set(self.value_set) if self.value_set else None
        if listing is not None:
            for part in items(listing.resource.get("compose"), "include"):
                if text(part, "system") == coding.system:
                    found += called(listing.listed(part).get(code))
        return list(dict.fromkeys(found))

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
            what: dict[str, Any] = (
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
