"""$process-adt: an HL7 v2 ADT is processed as the event message that it says, and acknowledged.

Answered with AA once it is stored, AE for what it says wrongly, AR for what is not taken at all;
an operation that fails for another reason answers as any other does.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.operation.parameters import Inputs
from operations import process_message
from operations._adt import event_message, other_event, place_of, unclear_legal_status
from operations._er7 import MEDIA_TYPE, Er7, Header, Refused, acknowledgement, read

SCOPES = process_message.SCOPES
AS_SERVICE: Final = process_message.AS_SERVICE
_CODES: Final = {
    Kind.CONFLICT: "205",
    Kind.UNSUPPORTED: "201",
    Kind.FORBIDDEN: "207",
}
_TOLD: Final = frozenset(
    {Kind.INVALID, Kind.BUSINESS_RULE, Kind.PROFILE, Kind.CONFLICT, Kind.UNSUPPORTED}
    | {Kind.FORBIDDEN}
)
"""What sending it again would not mend; anything else is answered in HTTP."""


async def run(call: Call) -> Resource:
    try:
        header, parsed = read(_content(call.parameters))
    except Refused as refused:
        raise FhirError.at(Kind.INVALID, "Binary.data", refused.text) from refused
    try:
        adt = await asyncio.to_thread(parsed)
        sender, place = call.parameters.one("sender"), call.pathway.v2_legal_status
        bundle = event_message(adt, header, sender, place)
    except Refused as refused:
        return _answer(call, header, [refused])
    wrong = await _processed(call, bundle)
    return _answer(call, header, wrong, _left_open(adt, bundle, call.pathway.v2_legal_status))


def _left_open(adt: Er7, bundle: Resource, place: str) -> str:
    """What is stored, and not understood or in doubt."""
    said = ""
    if other := other_event(adt):
        said += f" as {adt.text('MSH', 9, 2)} of MSH-9; EVN-1 says '{other[:20]}'"
    if status := unclear_legal_status(bundle):
        said += f"; the legal status '{status[:20]}' in {place} is not understood"
    return said


async def _processed(call: Call, bundle: Resource) -> Sequence[Refused]:
    """Process it as a message; why it was refused."""
    asked = replace(call, parameters=Inputs({"content": [bundle]}))
    try:
        await process_message.run(asked, is_checked=False)
    except FhirError as error:
        if error.kind not in _TOLD or isinstance(call.session, SessionUnit):
            raise  # what a larger commit holds is not to be kept by half
        return [_refused(error, call.pathway.v2_legal_status)]
    return ()


def _refused(error: FhirError, legal_status: str) -> Refused:
    issue = error.issues[0]
    code = _CODES.get(error.kind, "101" if issue.code == "required" else "102")
    text = "; ".join(one.text for one in error.issues[:5])
    place = place_of(issue.expression, legal_status)
    return Refused(place, code, text, rejected=error.kind is Kind.FORBIDDEN)


def _content(parameters: Inputs) -> bytes:
    """Bytes of the message: of a Binary, or of the text in a parameter."""
    binary, text = parameters.one("content"), parameters.one("message")
    if (binary is None) == (text is None):
        raise FhirError.at(
            Kind.INVALID, "Parameters.parameter", "One of 'content' and 'message' is expected"
        )
    if text is not None:
        return str(text).encode()
    try:
        return base64.b64decode(str(binary.get("data", "")), validate=False)
    except binascii.Error as error:
        raise FhirError.at(Kind.INVALID, "Binary.data", "It is not base64") from error


def _answer(
    call: Call, header: Header, refused: Sequence[Refused], left_open: str = ""
) -> Resource:
    code = refused[0].acknowledgement if refused else "AA"
    said = refused[0].text if refused else f"Processed{left_open}"
    content = acknowledgement(header, code, call.time, said[:200], refused)
    data = base64.b64encode(content).decode()
    return {"resourceType": "Binary", "contentType": MEDIA_TYPE, "data": data}
