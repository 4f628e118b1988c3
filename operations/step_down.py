"""EpisodeOfCare/$step-down: things are steadier, the keyworker hands over to other support."""

from typing import Final

from fhir_server.fhir.json import Resource
from fhir_server.fhir.said import said
from fhir_server.operation.api import Call
from fhir_server.operation.records import Records
from operations.pathway.moving import move, moved
from operations.pathway.states import STEP_DOWN

SCOPES: Final = ("EpisodeOfCare.ru",)


async def run(call: Call) -> Resource:
    reason = said(call.parameters.one("reason"))

    async def prepare(records: Records, before: Resource) -> Resource:  # noqa: ARG001
        return moved(before, STEP_DOWN, reason, call.now)

    return await move(call, call.session, prepare)
