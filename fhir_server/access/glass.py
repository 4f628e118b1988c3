"""Broken glass: for whom a practitioner reads without consent, why, and until when.

Kept as a memo for each caller and patient, made by `Patient/$break-glass` in the commit that tells
the keyworker. Nothing in a request by itself breaks any glass.
"""

from typing import Final

from fhir_server.access.caller import Caller, own_prefix
from fhir_server.storage.interface import Memo, Reader

SPACE: Final = "access-glass"
MOST: Final = 20
"""Patients for whom one caller may have it broken at one time."""


def key_of(caller: Caller, patient_id: str) -> str:
    """Who works for two organisations has a reason at each of them."""
    return f"{caller.organisation}/{patient_id}"


def memo(caller: Caller, patient_id: str, reason: str, until: int) -> Memo:
    """As the caller's own session keeps it; `until` is in microseconds since the epoch."""
    return Memo(SPACE, key_of(caller, patient_id), reason.encode(), until)


async def opened(reader: Reader, caller: Caller, patient_id: str = "") -> dict[str, str]:
    """The reasons by the ids of the patients; of that one alone, where one is named.

    All are read in either case, so that it takes the same time whoever is asked for, also for a
    store that remembers what it was asked.
    """
    own = own_prefix(caller.name) + key_of(caller, "")
    memos = await reader.memos(SPACE, own, MOST)
    told = {one.key.removeprefix(own): one.value.decode() for one in memos}
    if not patient_id:
        return told
    return {patient_id: told[patient_id]} if patient_id in told else {}
