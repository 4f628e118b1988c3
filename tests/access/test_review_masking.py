"""What the colour alone must not tell."""

from typing import Any, Final

import httpx

from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from tests.access.conftest import As
from tests.access.deciding import COLOUR, Decided, rating
from tests.storage.questions import patient, put

CONFIDENTIAL: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
    "code": "R",
}
SENSITIVE: Final = {"system": canonicals.ACT_CODE, "code": "SUD"}
SAID: Final = {"url": "https://example.org/modifier", "valueString": "told to the nurse"}


async def test_labels_and_modifiers_tell_no_more_than_the_colour(
    app: Application, client: httpx.AsyncClient, signed_in: As
) -> None:
    """ATTACKS 8: a label of sensitivity says what the record is about."""
    labelled: dict[str, Any] = {"meta": {"security": [CONFIDENTIAL, SENSITIVE]}}
    flag = rating("f1", "p1", modifierExtension=[SAID], **labelled)
    await put(app.state.store, patient("p1"), flag)
    signed_in(Decided({"p1": COLOUR}))
    seen = json.decode((await client.get("Flag/f1")).content)
    assert seen["meta"]["security"] == [CONFIDENTIAL]
    (modifier,) = seen["modifierExtension"]
    assert modifier["url"] == SAID["url"]
    assert "told to the nurse" not in json.encode(seen).decode()
    for asked, total in (
        ("SUD", 0),
        (f"{SENSITIVE['system']}|SUD", 0),
        (f"{CONFIDENTIAL['system']}|R", 1),
    ):
        answer = await client.get(f"Flag?_security={asked}&_summary=count")
        assert answer.json()["total"] == total, asked
