"""Which elements an expression names at its top."""

import pytest

from fhir_server.fhirpath.names import of_focus, of_resource
from fhir_server.fhirpath.parse import parse


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("status = 'final' implies value.exists()", {"status", "value"}),
        ("code.coding.where(system = 'a').exists() and $this.note.empty()", {"code", "note"}),
        ("entry.all(request.exists() = (%resource.type = 'batch'))", {"entry"}),
        ("(a | b).combine(c).count() > -d.e[f]", {"a", "b", "c", "d", "f"}),
        ("exists(g) and iif(h, i, j).k.is(Quantity)", {"g", "h", "i", "j"}),
        ("(l as Range).low.empty() xor (m is Period)", {"l", "m"}),
        ("true", set()),
    ],
)
def test_the_elements_of_the_focus_are_named(expression: str, expected: set[str]) -> None:
    assert set(of_focus(parse(expression))) == expected


def test_the_elements_of_the_resource_are_named() -> None:
    expression = "entry.all(%resource.type = 'x' and type = %context.kind) or %resource.total = 1"
    assert set(of_resource(parse(expression))) == {"type", "total"}
