"""An area: the young people whom one organisation, or one that is part of it, manages."""

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.references import parse_local
from fhir_server.operation.api import Call
from fhir_server.operation.records import Lookup, reference_to

_PLACE = "http.area"


async def organisations(call: Call, area: str) -> tuple[str, ...]:
    """References to what the area is: the organisation, and those right below it.

    `area` is a reference to an Organization or its ODS code; '' is everywhere, and no reference.

    Raises:
        FhirError: INVALID for one that is not known.
    """
    if not area:
        return ()
    lookup = Lookup(call.session, base=call.base, now=call.now)
    local = parse_local(area, call.base)
    if local is not None and local.type == "Organization":
        known = await lookup.get("Organization", local.id)
        found = [] if known is None else [known]
    else:
        code = {"system": canonicals.ODS_ORGANIZATION, "value": area}
        found = await lookup.by_identifier("Organization", [code])
    if not found:
        raise FhirError.at(
            Kind.INVALID,
            _PLACE,
            f"'{area[:80]}' is no organisation that is known; an ODS code or a reference such as "
            "Organization/12 is expected",
        )
    above = ",".join(reference_to(one) for one in found)
    below = await lookup.find("Organization", f"partof={above}")
    return tuple(dict.fromkeys(reference_to(one) for one in (*found, *below)))
