"""What the ward's system sends: ADT messages of HL7 v2.5, and the answer to them.

HL7 v2.5, chapter 3; which field says what: docs/api/hl7v2.md.
"""

from datetime import datetime
from typing import Final

import httpx

from fhir_server.demo.conversation import Conversation, NotAsTold
from fhir_server.demo.year.record import Family
from fhir_server.fhir.dates import LOCAL

_V2: Final = "x-application/hl7-v2+er7"
_SENDER: Final = "ZZK03"
_EMERGENCY: Final = "25"
"""An AdmissionMethod of the NHS Data Dictionary."""
_HOME: Final = "19"
"""A discharge destination: the usual place of residence."""


def admitted(family: Family, spell: str, at: datetime) -> str:
    """A01."""
    return _message("A01", family, spell, at, {4: _EMERGENCY, 44: _time(at)})


def discharged(family: Family, spell: str, start: datetime, at: datetime) -> str:
    """A03."""
    told = {4: _EMERGENCY, 36: "1", 37: _HOME, 44: _time(start), 45: _time(at)}
    return _message("A03", family, spell, at, told)


def _message(trigger: str, family: Family, spell: str, at: datetime, fields: dict[int, str]) -> str:
    visit = {1: "1", 2: "I", 3: "CURLEW", 19: spell, **fields}
    told = "|".join(visit.get(number, "") for number in range(1, max(visit) + 1))
    time = _time(at)
    return "\r".join(
        (
            f"MSH|^~\\&|PAS|{_SENDER}|KW|ZZK01|{time}||ADT^{trigger}|{trigger}-{spell}|P|2.5",
            f"EVN|{trigger}|{time}",
            f"PID|1||{family.nhs_number}^^^NHS^NH",
            f"PV1|{told}",
            "",
        )
    )


def _time(at: datetime) -> str:
    return f"{at.astimezone(LOCAL):%Y%m%d%H%M%S}"


def send(line: Conversation, message: str) -> str:
    """The acknowledgement's own line; anything else than AA breaks the story off."""
    answer = line.send("$process-adt", message, _V2)
    found = _acknowledgement(answer)
    if not found.startswith("MSA|AA|"):
        raise NotAsTold(f"The message was not taken: {answer.status_code} {answer.text}")
    return found


def _acknowledgement(answer: httpx.Response) -> str:
    lines = answer.text.replace("\n", "\r").split("\r")
    return next((line for line in lines if line.startswith("MSA|")), "")
