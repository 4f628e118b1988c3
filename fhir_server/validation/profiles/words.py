"""What common invariants of R4 mean to a sender, in words; the others show their expression.

Source: the constraints of the definitions at https://hl7.org/fhir/R4/resourcelist.html and
datatypes.html, told here in the project's own words.
"""

from typing import Final

WORDS: Final = {
    "bdl-1": "only a searchset or a history has a total",
    "bdl-2": "only entries of a searchset say how they were found (search)",
    "bdl-3": "each entry of a batch, transaction or history has a request, and no other has one",
    "bdl-4": "each entry of a response or a history has a response, and no other has one",
    "bdl-5": "an entry has a resource, a request or a response",
    "bdl-7": "no two entries may have the same fullUrl and version",
    "bdl-8": "a fullUrl names a resource, not a version of it (no /_history/)",
    "bdl-9": "a document has an identifier with a system and a value",
    "bdl-10": "a document has a timestamp",
    "bdl-11": "the first entry of a document is a Composition",
    "bdl-12": "the first entry of a message is a MessageHeader",
    "att-1": "an attachment with data has a contentType",
    "con-3": "clinicalStatus is needed, unless verificationStatus is entered-in-error",
    "con-4": "what has abated is inactive, resolved or in remission (clinicalStatus)",
    "con-5": "what was entered in error has no clinicalStatus",
    "cpl-3": "an activity has a detail or a reference to one, not both",
    "cpt-2": "a contact point with a value has a system (phone, email, …)",
    "dom-6": "a resource should have a narrative (text), so that people can read it",
    "gol-1": "a target with a detail has a measure",
    "obs-6": "dataAbsentReason is only there where there is no value",
    "obs-7": "an Observation whose code is that of a component has no value of its own",
    "org-1": "an organisation has an identifier or a name",
    "org-2": "the address of an organisation is not a home",
    "org-3": "a telecom of an organisation is not a home's",
    "pat-1": "a contact has a name, a telecom, an address or an organisation",
    "per-1": "a period does not end before it starts",
    "ppc-1": "a Consent has a policy or a policyRule",
    "qty-3": "a quantity with a code has the system of the code",
    "rng-2": "a range does not end below where it begins",
    "rat-1": "a ratio has both a numerator and a denominator, or neither and an extension",
    "tim-1": "a duration has a unit",
    "tim-2": "a period has a unit",
    "que-2": "no two items may have the same linkId",
    "qrs-1": "an item has answers or items in it, not both",
    "ait-1": "clinicalStatus is needed, unless verificationStatus is entered-in-error",
    "vs-1": "the time is told at least to the day",
    "vs-2": "where there is neither a value nor components or members, dataAbsentReason says why",
    "ait-2": "what was entered in error has no clinicalStatus",
}


_NAME: Final = "name.matches('[A-Z]"
"""How the rule begins that every type of definition has, with a key of its own."""


def words(key: str, expression: str) -> str:
    """What an invariant asks, with its key."""
    return f"{asked(key, expression)} ({key})"


def asked(key: str, expression: str) -> str:
    if expression.startswith(_NAME):
        return "the name is one for software: a capital, then letters, digits and _"
    return WORDS.get(key) or f"must hold: {expression}"
