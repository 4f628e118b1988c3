"""What the log says, and what it never says: class 11 of the attacks, and CWE-532.

The server is a process of its own: what stands in its log is all that it wrote.
"""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.logs import FIELDS, JsonLines, TextLines, trace
from tests.support import FHIR_JSON, ServerProcess, body

NAME: Final = "Zebedee-Quartermaine"
NUMBER: Final = "9990000042"
TOKEN: Final = "the-very-secret-token"
INSIDE: Final = "secret detail of the inside"
PATIENT: Final = {
    "resourceType": "Patient",
    "id": "1",
    "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": NUMBER}],
    "name": [{"family": NAME}],
}
FORMATS: Final = ("text", "json")


@pytest.fixture(params=FORMATS)
def noisy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """One that logs all that it can."""
    process = ServerProcess(
        f"sqlite:///{tmp_path}/noisy.db",
        tmp_path / "noisy.log",
        KEYWORKING_LOG_FORMAT=request.param,
        KEYWORKING_ACCESS_LOG="true",
        KEYWORKING_OPERATIONS="operations,fhir_operations,tests.http.plugged",
    )
    process.start()
    yield process
    process.stop()


def _ask(server: ServerProcess) -> None:
    """Many requests that hold the name, the number and the token, and mostly fail."""
    token = {"Authorization": f"Bearer {TOKEN}", "Cookie": f"session={TOKEN}"}
    broken = {**PATIENT, "birthDate": NAME, "gender": NAME, NAME: NAME}
    with httpx.Client(base_url=server.base + "/", headers=token) as client:
        client.put("Patient/1", **_of(PATIENT))
        for method, address, sent in (
            ("GET", f"Patient?family={NAME}&identifier={NUMBER}", None),
            ("GET", f"Patient?{NAME}={NUMBER}&access_token={TOKEN}", None),
            ("GET", f"Patient/{NUMBER}", None),
            ("GET", f"{NAME}/{NUMBER}", None),
            ("GET", f"Patient/1/${NAME}", None),
            ("GET", f"${NAME}", None),
            ("GET", f"Patient?birthdate={NAME}", None),
            ("GET", f"../{NAME}?a={TOKEN}", None),
            ("PUT", "Patient/2", broken),
            ("POST", "Patient", broken),
            ("POST", "Patient/$validate", broken),
            (
                "POST",
                "",
                {"resourceType": "Bundle", "type": "batch", "entry": [{"resource": broken}]},
            ),
            ("POST", f"$echo?text={NAME}", None),
            ("POST", f"Patient/$mark?fault=bug&name={NAME}", None),
            ("POST", "Patient/$mark", _parameters(reason=NAME, fault="bug")),
            ("PATCH", "Patient/1", [{"op": "test", "path": "/name/0/family", "value": NAME}]),
            ("DELETE", f"Patient?family={NAME}", None),
        ):
            more = {} if sent is None else _of(sent)
            client.request(method, address, **more)
        client.post("Patient", content=f'{{"name": "{NAME}'.encode(), headers=FHIR_JSON)
        xml = {"content-type": "application/fhir+xml"}
        client.post("Patient", content=f"<{NAME}>".encode(), headers=xml)


def _of(resource: Any) -> dict[str, Any]:
    sent = body(resource)
    if isinstance(resource, list):
        sent["headers"] = {"content-type": "application/json-patch+json"}
    return sent


def _parameters(**given: str) -> dict[str, Any]:
    sorts = {"reason": "valueString", "fault": "valueCode"}
    parts = [{"name": name, sorts[name]: value} for name, value in given.items()]
    return {"resourceType": "Parameters", "parameter": parts}


@pytest.mark.sqlite_alone
def test_the_log_of_many_failing_requests_names_nobody_and_no_secret(noisy: ServerProcess) -> None:
    _ask(noisy)
    text = noisy.logged()
    assert "RuntimeError" in text, "what went wrong is told"
    assert "mark.py" in text, "and where"
    for secret in (NAME, NUMBER, TOKEN, INSIDE, "family", "/Patient"):
        assert secret not in text, secret
    assert text.count("search-type") >= 2


def test_an_object_a_line_has_what_a_request_was_and_how_long_it_took(tmp_path: Path) -> None:
    process = ServerProcess(
        f"sqlite:///{tmp_path}/json.db",
        tmp_path / "json.log",
        KEYWORKING_LOG_FORMAT="json",
        KEYWORKING_ACCESS_LOG="true",
    )
    process.start()
    try:
        sent = {"X-Request-ID": "of-this-request"}
        httpx.get(f"{process.base}/Patient?family={NAME}", headers=sent)
        httpx.get(f"{process.base}/Patient/nobody")
        httpx.get(f"{process.base}/nothing")
    finally:
        process.stop()
    start = process.logged().index("{")  # behind the warning of --auth none
    lines = [json.loads(line) for line in process.logged()[start:].splitlines()]
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    search, read, nothing = (line for line in lines if line["logger"] == "fhir_server.requests")
    assert search["interaction"] == "search-type"
    assert (search["type"], search["status"]) == ("Patient", 200)
    assert search["request_id"] == "of-this-request"
    assert 0 < search["ms"] < 60_000
    assert set(FIELDS) <= search.keys()
    assert (read["interaction"], read["type"], read["status"]) == ("read", "Patient", 404)
    assert (nothing["interaction"], nothing["type"], nothing["status"]) == ("-", "-", 404)


def test_by_default_requests_are_not_logged(server: ServerProcess) -> None:
    before = len(server.logged())
    httpx.get(f"{server.base}/Patient?family={NAME}")
    assert "fhir_server.requests" not in server.logged()
    assert NAME not in server.logged()[before:]
    assert "search-type" not in server.logged()[before:]


def _record(message: str, error: BaseException | None = None, name: str = "a") -> logging.LogRecord:
    told = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord(name, logging.ERROR, "a.py", 1, message, (), told)


def _raised(how: str) -> BaseException:
    try:
        try:
            raise ValueError(NAME)
        except ValueError as error:
            if how == "from":
                raise RuntimeError(NAME) from error
            if how == "group":
                raise ExceptionGroup(NAME, [error, KeyError(NAME)]) from None
            raise TypeError(NAME)  # noqa: B904 - it is the context that this is about
    except Exception as error:
        error.add_note(NAME)
        return error


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()], ids=FORMATS)
@pytest.mark.parametrize(
    ("how", "sorts"),
    [
        ("from", ["RuntimeError", "ValueError"]),
        ("context", ["TypeError", "ValueError"]),
        ("group", ["ExceptionGroup", "ValueError", "KeyError"]),
    ],
)
def test_exceptions_are_told_by_sort_and_place_and_never_by_their_text(
    formatter: logging.Formatter, how: str, sorts: list[str]
) -> None:
    text = formatter.format(_record("It failed", _raised(how)))
    assert NAME not in text
    assert all(f"builtins.{sort}" in text for sort in sorts)
    assert "test_logs.py" in text
    assert "_raised" in text


def test_an_exception_that_is_its_own_cause_comes_to_an_end() -> None:
    error = ValueError(NAME)
    error.__cause__ = error
    assert trace(error) == ["builtins.ValueError"]


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()], ids=FORMATS)
def test_what_a_client_sent_makes_no_further_line(formatter: logging.Formatter) -> None:
    lines = formatter.format(_record("a\n2026-01-01T00:00:00.000Z INFO: forged\r\nb")).splitlines()
    assert len([line for line in lines if not line.startswith("    ")]) == 1


async def test_a_task_that_nobody_waited_for_does_not_tell_its_exception() -> None:
    """asyncio writes the exception's text into the message itself."""
    told: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(TextLines().format(record))

    async def fail() -> None:
        raise ValueError(NAME)

    keeping = Keeping()
    logging.getLogger("asyncio").addHandler(keeping)
    try:
        task = asyncio.create_task(fail())
        await asyncio.sleep(0.01)
        del task
    finally:
        logging.getLogger("asyncio").removeHandler(keeping)
    assert "never retrieved" in told[0]
    assert "ValueError" in told[0]
    assert NAME not in told[0]
