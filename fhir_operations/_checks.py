"""$validate-code: whether codes are codes of a system, or in a value set.

https://hl7.org/fhir/R4/valueset-operation-validate-code.html,
https://hl7.org/fhir/R4/codesystem-operation-validate-code.html
"""

from collections.abc import Sequence

from fhir_operations._terms import as_refused, not_checkable, parameters
from fhir_server.errors import FhirError
from fhir_server.fhir.json import Resource
from fhir_server.terminology.checking import Checked, Checker, Coding
from fhir_server.terminology.membership import Verdict


async def answer(checker: Checker, codings: Sequence[Coding]) -> Resource:
    """One that is right is enough; what is not known counts where none is.

    Raises:
        FhirError: BUSINESS_RULE where it cannot be said; UNAVAILABLE.
    """
    checked = [await _checked(checker, one) for one in codings]
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


async def _checked(checker: Checker, coding: Coding) -> Checked:
    try:
        return await checker.check(coding)
    except FhirError as error:
        raise as_refused(error) from None


def _listed(codings: Sequence[Coding]) -> str:
    return ", ".join(f"'{one.code}' of {one.canonical}" for one in codings[:5])
