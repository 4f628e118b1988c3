"""A code system and value sets to ask the terminology operations about."""

from typing import Any, Final

import httpx

from tests.support import body

JSON = dict[str, Any]
TREE: Final = "http://example.org/tree"


def prop(code: str, value: bool = True) -> list[JSON]:
    return [{"code": code, "valueBoolean": value}]


SYSTEM: Final[JSON] = {
    "resourceType": "CodeSystem",
    "id": "tree",
    "url": TREE,
    "version": "2",
    "name": "Tree",
    "status": "active",
    "content": "complete",
    "property": [
        {"code": "inactive", "type": "boolean"},
        {"code": "notSelectable", "type": "boolean"},
        {"code": "size", "type": "integer"},
    ],
    "concept": [
        {
            "code": "plant",
            "display": "Plants",
            "property": prop("notSelectable"),
            "concept": [
                {
                    "code": "oak",
                    "display": "Oak tree",
                    "definition": "A tree with acorns.",
                    "designation": [{"language": "cy", "value": "Derwen"}],
                    "property": [{"code": "size", "valueInteger": 30}],
                    "concept": [{"code": "sessile", "display": "Sessile oak"}],
                },
                {"code": "elm", "display": "Elm tree", "property": prop("inactive")},
            ],
        },
        {"code": "stone", "display": "Stone"},
    ],
}


def value_set(name: str, *include: JSON, **rest: Any) -> JSON:
    return {
        "resourceType": "ValueSet",
        "id": name,
        "url": f"http://example.org/{name}",
        "version": "1",
        "status": "active",
        "compose": {"include": [*include], **rest},
    }


def below(code: str) -> JSON:
    return {"system": TREE, "filter": [{"property": "concept", "op": "is-a", "value": code}]}


def parameters(*parts: JSON) -> dict[str, Any]:
    return body({"resourceType": "Parameters", "parameter": [*parts]})


def told(response: httpx.Response) -> dict[str, Any]:
    """The primitive values of a Parameters resource by name."""
    assert response.status_code == 200, response.text
    found = {}
    for part in response.json()["parameter"]:
        for name, value in part.items():
            if name.startswith("value"):
                found[part["name"]] = value
    return found


def codes(response: httpx.Response) -> list[str]:
    """The codes on the page of a flat expansion."""
    assert response.status_code == 200, response.text
    return [one["code"] for one in response.json()["expansion"].get("contains", ())]
