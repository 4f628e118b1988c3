"""Operations from packages that the settings name: found, checked when loaded, and answered."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.fhir import nhs_number
from fhir_server.operation.parameters import from_body, from_query
from fhir_server.operation.registry import BadOperation, Operations, load
from tests.operations.messages import JSON
from tests.operations.parameters import definition, problems
from tests.stores import store_at
from tests.support import assert_outcome, body

PLUGINS: Final = "tests.operations.plugins"
EXAMPLE: Final = Path(__file__).parent / "plugins" / "check_nhs_number.json"
DEFINITION: Final[JSON] = json.loads(EXAMPLE.read_text(encoding="utf-8"))
RUN: Final = "async def run(call):\n    return {'resourceType': 'Parameters'}\n"

LoadPackage = Callable[[dict[str, str]], Operations]


@pytest.fixture
def load_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadPackage:
    """Load a package that is made of these files."""
    monkeypatch.syspath_prepend(tmp_path)

    def from_files(contents: dict[str, str]) -> Operations:
        name = f"plugged_{abs(hash(tmp_path))}"
        folder = tmp_path / name
        folder.mkdir()
        for file, text in {"__init__.py": "", **contents}.items():
            (folder / file).write_text(text, encoding="utf-8")
        return load([name])

    return from_files


def defined(**changes: Any) -> str:
    """The example's definition under the code `greet`; None takes an element away."""
    made = {**DEFINITION, "code": "greet", **changes}
    return json.dumps({name: value for name, value in made.items() if value is not None})


# The example -----------------------------------------------------------------------------------


@pytest.fixture
async def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A server whose environment names the example beside the project's own operations."""
    monkeypatch.setenv("KEYWORKING_OPERATIONS", f"operations, {PLUGINS}")
    monkeypatch.setenv("KEYWORKING_AUTH", "none")
    monkeypatch.setenv("KEYWORKING_STORE", store_at(tmp_path / "plugged.db"))
    app = create_app()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8080/fhir/"
        ) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("number", "valid"), [(nhs_number.synthetic(7), True), ("9990000000", False)]
)
async def test_an_operation_of_a_named_package_is_answered(
    plugged: httpx.AsyncClient, number: str, valid: bool
) -> None:
    parameter = {"name": "number", "valueString": number}
    parameters = {"resourceType": "Parameters", "parameter": [parameter]}
    got = await plugged.get(f"$check-nhs-number?number={number}")
    posted = await plugged.post("$check-nhs-number", **body(parameters))
    assert got.content == posted.content
    assert problems(got.json(), definition(EXAMPLE)) == []
    assert got.json()["parameter"] == [{"name": "valid", "valueBoolean": valid}]


async def test_the_projects_own_operations_stand_beside_it(plugged: httpx.AsyncClient) -> None:
    response = await plugged.get("Patient/nobody/$admission-risk")
    assert_outcome(response, 404, "not-found", "Patient/nobody is not known")


async def test_the_capability_statement_names_it(plugged: httpx.AsyncClient) -> None:
    (rest,) = (await plugged.get("metadata")).json()["rest"]
    named = {operation["name"]: operation["definition"] for operation in rest["operation"]}
    assert named["check-nhs-number"] == DEFINITION["url"]
    assert "process-message" in named


async def test_without_being_named_it_is_not_there(client: httpx.AsyncClient) -> None:
    response = await client.get("$check-nhs-number?number=1")
    assert_outcome(response, 404, "not-found", "There is no operation $check-nhs-number")


async def test_the_projects_own_operations_come_through_the_same_door() -> None:
    assert {operation.code for operation in load(["operations"])} == {
        *("admission-risk", "break-glass", "discharge-plan", "explain-access", "process-message"),
        *("set-rating", "remove-rating", "discharge-readiness", "confirm-discharge"),
        *("refer", "allocate", "transition", "step-down", "close", "process-adt"),
        *("withdraw", "register", "caseload", "timeline", "easy-read", "oversight-report"),
        "resume",
    }
    assert {operation.code for operation in load(["fhir_operations"])} == {
        *("everything", "export", "import", "lastn", "meta", "meta-add", "meta-delete"),
        *("expand", "validate-code", "lookup", "subsumes", "translate", "closure"),
        *("validate", "status", "events", "get-ws-binding-token"),
    }


# What is refused when it is loaded -------------------------------------------------------------


def test_loads_a_definition_with_its_function(load_package: LoadPackage) -> None:
    files = {"greet.py": RUN, "greet.json": defined(), "_helper.py": "", "notes.txt": ""}
    (operation,) = load_package(files)
    assert operation.code == "greet"


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"greet.json": defined()}, "greet.json has no greet.py beside it"),
        ({"_greet.py": RUN, "_greet.json": defined()}, "has no _greet.py beside it"),
        ({"greet.py": RUN}, "greet.py has no greet.json beside it"),
        ({"greet.py": "", "greet.json": defined()}, "has no 'async def run(call)'"),
        ({"greet.py": "run = 7", "greet.json": defined()}, "has no 'async def run(call)'"),
        (
            {"greet.py": RUN.removeprefix("async "), "greet.json": defined()},
            "has no 'async def run(call)'",
        ),
        ({"greet.py": RUN, "greet.json": defined(code="wave")}, "greet.json defines $wave"),
        (
            {"greet.py": RUN, "greet.json": defined(code=None)},
            "greet.json: OperationDefinition.code: ",
        ),
        (
            {"greet.py": RUN, "greet.json": defined(kind="song")},
            "greet.json: OperationDefinition.kind: ",
        ),
        (
            {"greet.py": RUN, "greet.json": defined(colour="blue")},
            "greet.json: OperationDefinition.colour: ",
        ),
        (
            {"greet.py": RUN, "greet.json": '{"resourceType": "Patient"}'},
            "must be OperationDefinition, not Patient",
        ),
        ({"greet.py": RUN, "greet.json": "{"}, "greet.json: The body is not valid JSON"),
        ({"greet.py": RUN, "greet.json": "[]"}, "greet.json: The body is a JSON array"),
        *(
            ({"greet.py": f"{RUN}\nSCOPES = {scopes}", "greet.json": defined()}, text)
            for scopes, text in (
                ('"Patient.rs"', "greet.py has SCOPES that are no tuple of texts"),
                ("()", "greet.py has SCOPES that are no tuple of texts"),
                ("(1,)", "greet.py has SCOPES that are no tuple of texts"),
                ('("Patient.sr",)', "'Patient.sr' is no scope such as 'Patient.rs'"),
                ('("Patient.",)', "'Patient.' is no scope such as"),
                ('("Unicorn.r",)', "'Unicorn.r' is no scope such as"),
                ('("system/Patient.r",)', "'system/Patient.r' is no scope such as"),
                ('("{id}.r",)', "'{id}.r' is no scope such as"),
            )
        ),
        (
            {"greet.py": RUN, "greet.json": defined(system=False)},
            "names no level or no resource where it is invoked",
        ),
        (
            {"greet.py": RUN, "greet.json": defined(type=True)},
            "names no level or no resource where it is invoked",
        ),
    ],
)
def test_refuses_what_would_not_work(
    load_package: LoadPackage, files: dict[str, str], text: str
) -> None:
    with pytest.raises(BadOperation) as refused:
        load_package(files)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("affects_state", "declared", "scopes"),
    [
        (False, "", (("{type}", "rs"),)),
        (True, "", (("*", "cruds"),)),
        (None, "", (("*", "cruds"),)),
        (True, 'SCOPES = ("Task.cu", "{type}.r")', (("Task", "cu"), ("{type}", "r"))),
    ],
)
def test_says_which_scopes_a_token_needs_or_needs_those_of_everything(
    load_package: LoadPackage,
    affects_state: bool | None,
    declared: str,
    scopes: tuple[tuple[str, str], ...],
) -> None:
    files = {"greet.py": f"{RUN}\n{declared}", "greet.json": defined(affectsState=affects_state)}
    (operation,) = load_package(files)
    assert operation.scopes == scopes


def test_says_in_which_other_forms_it_answers(load_package: LoadPackage) -> None:
    (operation,) = load_package(
        {"greet.py": f'{RUN}\nMEDIA = ("text/csv",)', "greet.json": defined()}
    )
    assert operation.media == ("text/csv",)


def test_refuses_media_that_are_no_tuple_of_texts(load_package: LoadPackage) -> None:
    with pytest.raises(BadOperation, match="MEDIA that are no tuple of texts"):
        load_package({"greet.py": f'{RUN}\nMEDIA = "text/csv"', "greet.json": defined()})


def test_refuses_two_of_one_code() -> None:
    with pytest.raises(BadOperation, match=r"\$check-nhs-number is defined twice"):
        load([PLUGINS, PLUGINS])


def test_one_code_may_mean_another_operation_on_another_type(load_package: LoadPackage) -> None:
    there = {"system": False, "instance": True}
    files = {
        f"{name}_greet.{ending}": text
        for name in ("goal", "flag")
        for ending, text in (
            ("py", RUN),
            ("json", defined(**there, resource=[name.title()], title=name)),
        )
    }
    operations = load_package(files)
    for name in ("Goal", "Flag"):
        found = operations.find("greet", "instance", name)
        assert found is not None
        assert found.definition["title"] == name.lower()
    assert operations.find("greet", "instance", "Task") is None
    assert operations.find("greet", "type", "Goal") is None


def test_refuses_two_of_one_code_at_one_place(load_package: LoadPackage) -> None:
    there = {"system": False, "instance": True}
    files = {
        "greet.py": RUN,
        "greet.json": defined(**there, resource=["Resource"]),
        "goal_greet.py": RUN,
        "goal_greet.json": defined(**there, resource=["Goal"]),
    }
    with pytest.raises(BadOperation, match=r"\$greet is defined twice"):
        load_package(files)


def test_a_file_is_not_named_after_a_type_of_another(load_package: LoadPackage) -> None:
    made = defined(system=False, instance=True, resource=["Goal"])
    with pytest.raises(BadOperation, match=r"flag_greet.json defines \$greet"):
        load_package({"flag_greet.py": RUN, "flag_greet.json": made})


def test_refuses_a_package_that_is_not_there() -> None:
    with pytest.raises(BadOperation, match="There is no package 'plugins_nowhere'"):
        load(["plugins_nowhere"])


def test_refuses_a_module_for_a_package() -> None:
    with pytest.raises(BadOperation, match="is a module, not a package"):
        load(["operations.admission_risk"])


def test_an_operation_on_every_type_answers_on_each(load_package: LoadPackage) -> None:
    anywhere = defined(system=False, instance=True, resource=["Resource"])
    (operation,) = load_package({"greet.py": RUN, "greet.json": anywhere})
    assert operation.answers_at("instance", "Goal")
    assert not operation.answers_at("system", "")


# Parameters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "text", "place"),
    [
        ("number=1&colour=blue", "'colour' is not a parameter", "http.colour"),
        ("", "'number' is missing; at least 1 is required", "Parameters.parameter"),
        ("number=1&number=2", "'number' is given 2 times; at most 1", "http.number"),
        ("number=", "must not be empty", "http.number"),
    ],
)
async def test_refuses_parameters_in_the_query(
    plugged: httpx.AsyncClient, query: str, text: str, place: str
) -> None:
    response = await plugged.get(f"$check-nhs-number?{query}")
    code = "required" if "missing" in text else "invalid"
    assert_outcome(response, 400, code, text, place)
    if query:
        assert "is missing" not in response.text


@pytest.mark.parametrize(
    ("parameters", "text", "place"),
    [
        (
            [{"name": "number", "valueString": "1"}, {"name": "colour", "valueCode": "blue"}],
            "'colour' is not a parameter of $check-nhs-number; allowed: number",
            "Parameters.parameter[1]",
        ),
        (None, "'number' is missing; at least 1 is required", "Parameters.parameter"),
        (
            [{"name": "number", "valueString": "1"}, {"name": "number", "valueString": "2"}],
            "'number' is given 2 times; at most 1",
            "Parameters.parameter[1]",
        ),
        (
            [{"name": "number", "valueInteger": 1}],
            "'number' is a Integer; string is expected",
            "Parameters.parameter[0]",
        ),
        (
            [{"name": "number", "part": [{"name": "digit", "valueInteger": 1}]}],
            "'number' is a group; string is expected",
            "Parameters.parameter[0]",
        ),
        (
            [{"name": "number", "resource": {"resourceType": "Patient"}}],
            "'number' is a Patient; string is expected",
            "Parameters.parameter[0]",
        ),
    ],
)
async def test_refuses_parameters_in_the_body(
    plugged: httpx.AsyncClient, parameters: list[JSON] | None, text: str, place: str
) -> None:
    sent = {"resourceType": "Parameters"} | ({"parameter": parameters} if parameters else {})
    response = await plugged.post("$check-nhs-number", **body(sent))
    code = "required" if "missing" in text else "invalid"
    assert_outcome(response, 400, code, text, place)
    assert len(response.json()["issue"]) == 1


async def test_refuses_a_parameter_whose_name_is_not_told(plugged: httpx.AsyncClient) -> None:
    absent = {"extension": [{"url": "https://example.org/why", "valueCode": "unknown"}]}
    sent = {"resourceType": "Parameters", "parameter": [{"_name": absent, "valueString": "1"}]}
    response = await plugged.post("$check-nhs-number", **body(sent))
    place = "Parameters.parameter[0]"
    assert_outcome(response, 400, "invalid", "'' is not a parameter", place)


OF_EVERY_KIND: Final[JSON] = {
    "code": "greet",
    "parameter": [
        {"name": kind, "use": "in", "min": 0, "max": "*", "type": kind}
        for kind in (
            *("boolean", "code", "date", "dateTime", "decimal", "instant", "integer"),
            *("positiveInt", "string", "unsignedInt", "uri", "Reference", "Patient"),
        )
    ]
    + [{"name": "group", "use": "in", "min": 0, "max": "1", "part": []}],
}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("code", "blue", "blue"),
        ("date", "2026-06", "2026-06"),
        ("dateTime", "2026-06-03T19:40:00+01:00", "2026-06-03T19:40:00+01:00"),
        ("integer", "-3", -3),
        ("positiveInt", "1", 1),
        ("unsignedInt", "0", 0),
        ("string", "two words", "two words"),
        ("uri", "urn:oid:1.2", "urn:oid:1.2"),
    ],
)
def test_reads_a_primitive_from_the_query(kind: str, text: str, value: object) -> None:
    found = from_query(OF_EVERY_KIND, [(kind, text), ("_format", "json"), ("_pretty", "true")])
    assert found.all(kind) == [value]


def test_reads_a_decimal_to_the_digit() -> None:
    assert str(from_query(OF_EVERY_KIND, [("decimal", "-1.50")]).one("decimal")) == "-1.50"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("boolean", "yes"),
        ("code", " blue"),
        ("date", "2026-02-30"),
        ("dateTime", "yesterday"),
        ("decimal", "1e9"),
        ("decimal", "NaN"),
        ("instant", "2026-06-03"),
        ("integer", "1.5"),
        ("integer", "2147483648"),
        ("integer", "²"),
        ("positiveInt", "0"),
        ("unsignedInt", "-1"),
        ("string", "\x07"),
        ("uri", "two words"),
        ("Reference", "Patient/7"),
        ("Patient", "abc"),
        ("group", "abc"),
    ],
)
def test_refuses_what_is_no_such_primitive(kind: str, text: str) -> None:
    with pytest.raises(Exception, match=r".") as refused:
        from_query(OF_EVERY_KIND, [(kind, text)])
    (issue,) = refused.value.issues  # type: ignore[attr-defined]
    assert issue.expression == f"http.{kind}"


def test_reads_every_value_of_a_parameter_in_order() -> None:
    given = [{"name": "code", "valueCode": code} for code in ("red", "blue")]
    found = from_body(OF_EVERY_KIND, {"resourceType": "Parameters", "parameter": given})
    assert (found.all("code"), found.one("code")) == (["red", "blue"], "red")
    assert (found.all("date"), found.one("date")) == ((), None)
