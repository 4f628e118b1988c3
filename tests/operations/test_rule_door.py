"""Rules from packages that the settings name: found, checked when loaded, and run."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.operation.registry import BadOperation
from fhir_server.operation.rules import Rule, load_rules
from fhir_server.settings import Settings
from tests.support import assert_outcome, body

FOLLOW: Final = "async def follow(change):\n    return []\n"

LoadRules = Callable[[dict[str, str]], tuple[Rule, ...]]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], str]:
    """The name of a package with these rules."""
    monkeypatch.syspath_prepend(tmp_path)

    def made(rules: dict[str, str]) -> str:
        name = f"ruled_{abs(hash(tmp_path))}"
        folder = tmp_path / name / "rules"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        for file, text in {"__init__.py": "", **rules}.items():
            (folder / file).write_text(text, encoding="utf-8")
        return name

    return made


def test_the_rules_of_a_package_are_found_by_name(package: Any) -> None:
    name = package({"b.py": f'ON = ("Goal",)\n{FOLLOW}', "a.py": f'ON = ("Flag",)\n{FOLLOW}'})
    assert [rule.name for rule in load_rules([name])] == [f"{name}.rules.a", f"{name}.rules.b"]


def test_a_package_without_rules_has_none() -> None:
    assert load_rules(["fhir_operations"]) == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (FOLLOW, "has no ON"),
        (f'ON = "Flag"\n{FOLLOW}', "has no ON"),
        (f'ON = ("Rating",)\n{FOLLOW}', "has no ON"),
        (f"ON = ()\n{FOLLOW}", "has no ON"),
        ('ON = ("Flag",)\n', "is no rule"),
        ('ON = ("Flag",)\ndef follow(change):\n    return []\n', "is no rule"),
        (f'ON = ("Flag",)\n{FOLLOW}guard = 1\n', "is no rule"),
    ],
)
def test_a_module_that_is_no_rule_is_refused_at_start(
    package: Any, settings: Settings, text: str, problem: str
) -> None:
    name = package({"wrong.py": text})
    with pytest.raises(BadOperation, match=problem):
        create_app(settings.model_copy(update={"operations": (name,)}))


_COUNTS: Final = """
ON = ("Basic",)

async def follow(change):
    if change.after is None:
        return []
    number = int(change.after["code"]["text"])
    if number >= LAST:
        return []
    await change.records.save({**change.after, "code": {"text": str(number + 1)}})
    return []
"""
_REFUSES: Final = """
from fhir_server.errors import FhirError, Kind

ON = ("Basic",)

async def guard(change):
    if change.resource["code"]["text"].startswith("bad"):
        raise FhirError.at(Kind.BUSINESS_RULE, "Basic.code", "That is bad")
"""


@pytest.fixture
async def ruled(package: Any, settings: Settings) -> AsyncIterator[Any]:
    """A server with rules of its own beside the service's."""
    made: list[Any] = []

    async def serve(rules: dict[str, str]) -> httpx.AsyncClient:
        ours = settings.model_copy(update={"operations": ("operations", package(rules))})
        app = create_app(ours)
        lifespan = app.router.lifespan_context(app)
        await lifespan.__aenter__()
        transport = httpx.ASGITransport(app=app)
        client = httpx.AsyncClient(transport=transport, base_url=ours.base + "/")
        made.extend((client, lifespan))
        return client

    yield serve
    client, lifespan = made
    await client.aclose()
    await lifespan.__aexit__(None, None, None)


def basic(text: str, resource_id: str = "b") -> dict[str, Any]:
    return {"resourceType": "Basic", "id": resource_id, "code": {"text": text}}


async def test_what_a_rule_writes_is_looked_at_in_turn(ruled: Any) -> None:
    client = await ruled({"counts.py": _COUNTS.replace("LAST", "9")})
    assert (await client.put("Basic/b", **body(basic("1")))).status_code == 201
    assert (await client.get("Basic/b")).json()["code"]["text"] == "9"
    assert (await client.get("Basic/b/_history?_summary=count")).json()["total"] == 9


async def test_what_never_comes_to_rest_is_refused_and_leaves_nothing(ruled: Any) -> None:
    client = await ruled({"counts.py": _COUNTS.replace("LAST", "10**9")})
    answer = await client.put("Basic/b", **body(basic("1")))
    assert_outcome(answer, 403, "too-costly", "Basic/b")
    assert (await client.get("Basic/b")).status_code == 404


async def test_a_guard_is_not_asked_about_what_a_rule_wrote(ruled: Any) -> None:
    turns = (
        _COUNTS.replace("LAST", "2")
        .replace("str(number + 1)", "'bad'")
        .replace(
            'int(change.after["code"]["text"])', '3 if "bad" in change.after["code"]["text"] else 1'
        )
    )
    client = await ruled({"counts.py": turns, "refuses.py": _REFUSES})
    assert (await client.put("Basic/b", **body(basic("good")))).status_code == 201
    assert (await client.get("Basic/b")).json()["code"]["text"] == "bad"


async def test_everything_that_is_missing_is_told_at_once(ruled: Any) -> None:
    client = await ruled({"refuses.py": _REFUSES})
    entries = [
        {"request": {"method": "PUT", "url": f"Basic/{name}"}, "resource": basic(text, name)}
        for name, text in (("a", "bad"), ("b", "good"), ("c", "bad"))
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await client.post("", **body(bundle))
    assert_outcome(answer, 422, "business-rule", "Basic/a: That is bad")
    assert [issue["diagnostics"] for issue in answer.json()["issue"]] == [
        "Basic/a: That is bad",
        "Basic/c: That is bad",
    ]
    assert (await client.get("Basic/b")).status_code == 404
