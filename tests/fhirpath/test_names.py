"""Which elements an expression looks at."""

import pytest

from fhir_server.fhirpath.names import paths
from fhir_server.fhirpath.parse import parse


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("status = 'final' implies value.exists()", "status value"),
        ("code.coding.where(system = 'a').exists()", "code code.coding code.coding.system"),
        ("$this.note.first().text.empty()", "note note.text"),
        (
            "entry.all(request.exists() = (%resource.type = 'x'))",
            "entry entry.request %resource.type",
        ),
        ("(a | b).combine(c).count() > -d.e[f]", "a b c d d.e f"),
        ("exists(g) and iif(h, i, j).k.is(Quantity)", "g h i j"),
        ("(l as Range).low.empty() xor (m is Period)", "l l.low m"),
        ("n.ofType(Reference).resolve().status = 'x'", "n"),
        (
            "extension('urn:e.x').value.exists()",
            "extension(urn:e_x) extension(urn:e_x).url extension(urn:e_x).value",
        ),
        (
            "extension.where(url = 'r' and value = 1).extension.where(id = 's').exists()",
            "extension(r) extension(r).url extension(r).value extension(r).extension "
            "extension(r).extension.id",
        ),
        (
            "o.select(p).q.exists() and o.extension('r').empty()",
            "o o.p o.p.q o.extension(r) o.extension(r).url",
        ),
        (
            "descendants().reference.empty() and contained.s.exists()",
            "*.reference contained contained.s",
        ),
        ("b.repeat(c).d.exists()", "b b.c b.c.*.d"),
        ("true", ""),
    ],
)
def test_the_elements_that_are_looked_at_are_named(expression: str, expected: str) -> None:
    assert {".".join(path) for path in paths(parse(expression))} == set(expected.split())
