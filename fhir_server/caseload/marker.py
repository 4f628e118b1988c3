"""The last resource of the caseload: while it is missing, the load was not finished.

R4: https://hl7.org/fhir/R4/provenance.html.
"""

from collections.abc import Iterable
from datetime import date

from fhir.resources.R4B.provenance import Provenance, ProvenanceAgent

from fhir_server.caseload import service
from fhir_server.caseload.elements import TEST_DATA, at, coded, reference, words
from fhir_server.caseload.people import YoungPerson
from fhir_server.fhir import canonicals

MARKER_ID = "kw-synthetic-caseload"


def marker(seed: int, as_of: date, people: Iterable[YoungPerson]) -> Provenance:
    targets = [reference(person.patient) for person in people]
    return Provenance(
        id=MARKER_ID,
        meta=TEST_DATA,
        target=targets,
        recorded=at(as_of, 0),
        activity=words(
            f"Synthetic caseload of {len(targets)}: seed {seed}, as of {as_of.isoformat()}"
        ),
        agent=[
            ProvenanceAgent(
                type=coded(canonicals.PROVENANCE_PARTICIPANT, "assembler"),
                who=reference(service.HOST),
            )
        ],
    )
