"""Requests that Schemathesis makes from the OpenAPI description, against a server of its own.

https://schemathesis.readthedocs.io. Whatever comes in, no 5xx goes out, every refusal is a valid
OperationOutcome in the format that was asked for, and a write that is refused leaves no trace.
The description itself is held to as well: statuses, media types, schemas.
"""

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from fhir.resources.R4B.operationoutcome import OperationOutcome
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fhir_server.describing import described
from fhir_server.fhir import json as fhir_json
from fhir_server.fhir import xml
from fhir_server.http import openapi
from fhir_server.operation.registry import load
from fhir_server.settings import PATH, Settings
from tests.support import ServerProcess

NIGHTLY: Final = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
TRIED: Final = re.compile(
    r".*" if NIGHTLY else r"/(metadata|_search|_history|\$.*|(Patient|Binary)(/.*)?)?"
)
"""Paths: what is wired alike for all types is tried on a few of them, at night on all."""
MANY: Final = settings(
    max_examples=100 if NIGHTLY else 3,
    deadline=None,
    derandomize=not NIGHTLY,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
MEDIA: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "application/fhir+json; charset=utf-8": json.loads,
    "application/fhir+xml; charset=utf-8": xml.decode_resource,
}


@cache
def _document() -> dict[str, Any]:
    usual = Settings()
    told = described(usual, load(usual.operations), PATH)
    document: dict[str, Any] = json.loads(openapi.encoded(told))
    document["paths"] = {
        path: item for path, item in document["paths"].items() if TRIED.fullmatch(path)
    }
    return document


@cache
def _operations() -> dict[str, APIOperation[Any, Any, Any, Any]]:
    schema = schemathesis.openapi.from_dict(_document())
    found = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
    return {operation.label: operation for operation in found}


def _labels() -> list[str]:
    return [
        f"{method.upper()} {path}"
        for path, item in _document()["paths"].items()
        for method in item
        if method != "parameters"
    ]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Its own, since what it stores is nonsense."""
    folder = tmp_path_factory.mktemp("schemathesis")
    process = ServerProcess(folder / "server.db", folder / "server.log")
    try:
        process.start()
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.mark.parametrize("label", _labels())
def test_whatever_comes_in_the_description_is_kept(
    served: ServerProcess, session: requests.Session, label: str
) -> None:
    operation = _operations()[label]
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    cases = st.one_of(*(operation.as_strategy(mode) for mode in modes))

    @MANY
    @given(case=cases)
    def tried(case: Case[Any]) -> None:
        before = _newest(served)
        response = case.call(base_url=served.base, session=session)
        # That a body is left out on request, OpenAPI has no words for.
        minimal = "return=minimal" in response.headers.get("preference-applied", ())
        case.validate_response(response, checks=CHECKS[:2] if minimal else CHECKS)
        if response.status_code >= 400:
            assert _newest(served) == before
            if case.method != "HEAD":
                _require_outcome(response.headers["content-type"], response.content)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tried()


def _newest(served: ServerProcess) -> list[Any]:
    """The version that was committed last."""
    entries: list[Any] = httpx.get(f"{served.base}/_history?_count=1").json().get("entry", [])
    return [[entry["fullUrl"], entry["response"]] for entry in entries]


def _require_outcome(media: Any, content: bytes) -> None:
    (media_type,) = media if isinstance(media, list) else [media]
    assert OperationOutcome.model_validate_json(fhir_json.encode(MEDIA[media_type](content)))
