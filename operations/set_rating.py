"""Patient/$set-rating: somebody gives a rating on the register, and says why.

The one before is superseded in the same commit, by the service's rules; its history stays.
"""

from typing import Final

from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from operations._appraising import Appraisal, colour_in, evidence_in, give, reason_of
from operations._deciding import RATES, decider
from operations.admission_risk import person_of

SCOPES = ("Patient.r", "Flag.cu")
AS_SERVICE: Final = RATES


async def run(call: Call) -> Resource:
    person = await person_of(call)
    appraisal = Appraisal(
        colour_in(call),
        reason_of(call, "reason"),
        await evidence_in(call, person),
        await decider(call, person, rates=True),
        bool(call.parameters.one("override")),
        bool(call.parameters.one("avoided")),
    )
    return await give(call, person, appraisal)
