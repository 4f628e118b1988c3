"""Whether a Condition is a learning disability or autism that has been found.

By ICD-10, where it is coded so (F70 to F79 and F84: https://icd.who.int/browse10/2019/en#/F70-F79),
else by its words: no SNOMED CT code for it was found in the sources of the project.
"""

import re
from typing import Final

from fhir_server.fhir.json import Resource
from operations._person import codes

_ICD_10: Final = re.compile(r"http://hl7\.org/fhir/sid/icd-10(-.*)?")
_CODE: Final = re.compile(r"F7[0-9].*|F84.*", re.IGNORECASE)
_WORDS: Final = re.compile(r"\bautis|\basperger|(learning|intellectual) disabilit", re.IGNORECASE)
_NOT_FOUND: Final = frozenset(
    {"unconfirmed", "provisional", "differential", "refuted", "entered-in-error"}
)
_GONE: Final = frozenset({"inactive", "resolved"})


def is_eligible(condition: Resource) -> bool:
    """Whether it is one of these, confirmed and there still."""
    verified = {code for _, code in codes(condition.get("verificationStatus"))}
    clinical = {code for _, code in codes(condition.get("clinicalStatus"))}
    return not (verified & _NOT_FOUND or clinical & _GONE) and _is_named(condition)


def _is_named(condition: Resource) -> bool:
    concept = condition.get("code", {})
    coded = any(
        _ICD_10.fullmatch(system) and _CODE.fullmatch(code) for system, code in codes(concept)
    )
    said = [concept.get("text", ""), *(one.get("display", "") for one in concept.get("coding", ()))]
    return coded or any(_WORDS.search(words) for words in said)
