"""docs/api says what the server does: each page is complete, and each example is tried.

An example is a fenced block `http`: a request line, headers, an empty line and a body where there
is one, then `→` and the status, then headers of the answer. A block may hold several, parted by
empty lines. A block `json` straight after it holds a part of the last answer: members that are
left out may be there, items of a list are in this order, and … stands for any text.
"""

import json
import re
import shlex
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.errors import Kind
from fhir_server.interactions.table import ROUTER
from fhir_server.search.ast import Prefix
from fhir_server.search.filter import OPERATORS
from fhir_server.search.filtering import SYSTEMS
from fhir_server.search.limits import Limits
from fhir_server.search.operands import MODIFIERS
from fhir_server.search.parse import RESULT_PARAMETERS
from fhir_server.settings import Settings
from fhir_server.synthetic import ensure_loaded
from tests.support import REPOSITORY

API: Final = REPOSITORY / "docs" / "api"
PAGES: Final = sorted(API.rglob("*.md"))
PAGE_OF_INTERACTION: Final = {
    "read": "read",
    "vread": "vread",
    "create": "create",
    "update": "update",
    "patch": "patch",
    "delete": "delete",
    "history-instance": "history",
    "history-type": "history",
    "history-system": "history",
    "search-type": "search",
    "search-system": "search",
    "search-compartment": "search",
    "batch": "transaction-and-batch",
    "capabilities": "capabilities",
    "operation": "operations",
    "job": "asynchronous",
    "job-cancel": "asynchronous",
    "job-file": "asynchronous",
}
BESIDE: Final = (
    "audit-event.md",
    "binary.md",
    "errors.md",
    "filter.md",
    "formats.md",
    "index.md",
    "openapi.md",
    "profiles.md",
    "search-parameters.md",
    "subscriptions.md",
)
"""Pages about more than one interaction, or none."""
DEFINITIONS: Final = [
    json.loads(path.read_text())
    for package in ("operations", "fhir_operations")
    for path in sorted((REPOSITORY / package).glob("*.json"))
]
_FENCED: Final = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_REQUEST: Final = re.compile(
    r"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/(?:fhir|openapi\.json)\S*)"
)
_STATUS: Final = re.compile(r"→ (\d{3})")
_HEADER: Final = re.compile(r"([A-Za-z-]+): (.*)")
_HOST: Final = "http://127.0.0.1:8080"


@dataclass
class Example:
    """A request of a page, and what the page says of its answer."""

    method: str
    path: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer: Any = None

    async def try_with(self, client: httpx.AsyncClient) -> None:
        said = f"{self.method} {self.path}"
        response = await client.request(
            self.method, _HOST + self.path, headers=self.headers, content=self.body.strip().encode()
        )
        assert response.status_code == self.status, f"{said}: {response.text}"
        for name, value in self.answer_headers.items():
            assert _holds(value, response.headers.get(name)), f"{said}: {name}"
        if self.answer is not None:
            assert _holds(self.answer, response.json()), f"{said}: {response.text}"


def _holds(expected: Any, found: Any) -> bool:
    """Whether what a page shows is a part of what came."""
    match expected:
        case dict():
            return isinstance(found, dict) and all(
                name in found and _holds(value, found[name]) for name, value in expected.items()
            )
        case list():
            rest: Iterator[Any] = iter(found if isinstance(found, list) else ())
            return all(any(_holds(item, other) for other in rest) for item in expected)
        case str():
            parts = (re.escape(part) for part in expected.split("…"))
            return isinstance(found, str) and bool(re.fullmatch(".*".join(parts), found, re.DOTALL))
        case _:
            return bool(expected == found)


def examples(page: Path) -> list[Example]:
    """Those of a page, in order."""
    text, found = page.read_text(), list[Example]()
    after_http = -1
    for block in _FENCED.finditer(text):
        language, content = block.groups()
        if language == "http":
            found += _requests(content)
            after_http = block.end()
        elif language == "bash":
            found += _commands(content)
        elif language == "json" and not text[after_http : block.start()].strip():
            found[-1].answer = json.loads(content)
    return found


def _requests(content: str) -> Iterator[Example]:
    example: Example | None = None
    for line in content.splitlines():
        if example is None or (example.status and not line):
            request = _REQUEST.fullmatch(line)
            assert request or not line, f"not a request: {line}"
            example = Example(request[1], request[2]) if request else None
        elif status := _STATUS.fullmatch(line):
            example.status = int(status[1])
            yield example
        elif header := _HEADER.fullmatch(line) if example.status or not example.body else None:
            headers = example.answer_headers if example.status else example.headers
            headers[header[1]] = header[2]
        else:
            example.body += f"{line}\n"
    assert example is None or example.status, f"no status: {content}"


def _commands(content: str) -> Iterator[Example]:
    """Lines with curl; `# → 200` above says what comes."""
    for comment, command in re.findall(r"^# .*→ (\d{3})\n(curl .+)$", content, re.MULTILINE):
        *_, url = shlex.split(command)
        assert url.startswith(_HOST), command
        yield Example("GET", url.removeprefix(_HOST), int(comment))


@pytest.fixture(scope="module")
def caseload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that holds the synthetic caseload."""
    folder = tmp_path_factory.mktemp("docs") / "store"
    folder.mkdir()
    with chdir(folder):  # where lines to try are written down
        ensure_loaded(Settings(auth="none", store=f"sqlite:///{folder}/docs.db"))
    return folder


@asynccontextmanager
async def _served(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(auth="none", store=f"sqlite:///{folder}/docs.db"))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport) as client:
            yield client


def _name(page: Path) -> str:
    return str(page.relative_to(API))


@pytest.mark.parametrize("page", PAGES, ids=_name)
async def test_every_example_answers_as_its_page_says(
    page: Path, caseload: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    shutil.copytree(caseload, folder)
    async with _served(folder) as client:
        for example in examples(page):
            await example.try_with(client)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_page_shows_requests_that_are_tried(page: Path) -> None:
    assert examples(page)


def test_every_interaction_has_its_page() -> None:
    assert {route.interaction.code for route in ROUTER.routes} == PAGE_OF_INTERACTION.keys()
    for name in PAGE_OF_INTERACTION.values():
        assert (API / f"{name}.md").is_file(), name


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: str(definition["code"]))
def test_every_operation_has_its_page_that_names_every_parameter(
    definition: dict[str, Any],
) -> None:
    text = (API / "operations" / f"{definition['code']}.md").read_text()
    assert text.startswith(f"# ${definition['code']}\n")
    for parameter in definition.get("parameter", ()):
        for part in (parameter, *parameter.get("part", ())):
            assert f"`{part['name']}`" in text, part["name"]


def test_no_page_is_about_what_is_not_there() -> None:
    wired = {f"{name}.md" for name in PAGE_OF_INTERACTION.values()}
    wired |= {f"operations/{definition['code']}.md" for definition in DEFINITIONS}
    assert {_name(page) for page in PAGES} == wired | {*BESIDE}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_page_links_the_standard_and_says_what_is_not_supported(page: Path) -> None:
    text = page.read_text()
    assert "https://hl7.org/fhir/R4/" in text
    assert re.search(r"^## Not supported$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target.partition("#")[0]).is_file(), target


def test_the_index_links_every_page() -> None:
    linked = re.findall(r"\]\(([^)#]+\.md)\)", (API / "index.md").read_text())
    assert {_name(page) for page in PAGES} - {"index.md"} <= set(linked)


def test_the_search_page_names_every_type_modifier_prefix_and_result_parameter() -> None:
    text = (API / "search.md").read_text()
    modifiers = {f":{name}" for names in MODIFIERS.values() for name in names}
    named = {*MODIFIERS, *modifiers, *RESULT_PARAMETERS, *(prefix.value for prefix in Prefix)}
    assert {name for name in named if f"`{name}`" not in text} == set()


def test_the_page_of_filters_names_every_operator_short_system_and_limit() -> None:
    text = (API / "filter.md").read_text()
    assert {name for name in (*OPERATORS, *SYSTEMS) if f"`{name}`" not in text} == set()
    assert f"{Limits().max_expression:,} characters" in text
    assert f"{Limits().max_nesting} brackets" in text
    assert f"{Limits().max_tests} tests" in text


def test_the_page_of_errors_names_every_status_and_issue_type() -> None:
    text = (API / "errors.md").read_text()
    for kind in Kind:
        assert re.search(rf"^\| {kind.status} \| `{kind.code}` \|", text, re.MULTILINE), kind
