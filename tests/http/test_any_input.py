"""Whatever comes in, no 5xx goes out, and every refusal is a valid OperationOutcome.

https://hl7.org/fhir/R4/http.html#Status-Codes
"""

import json
from typing import Any
from urllib.parse import quote

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.fhir.definitions import resource_types, search_parameters
from tests.support import outcome_issues

# The server is the same for all examples of a test: what one leaves behind, the next one meets.
ANY = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TYPES = ("Patient", "CarePlan", "Observation", "Bundle", "Task", "Parameters", "Questionnaire")

segments = st.one_of(
    st.sampled_from([*TYPES, "_history", "_search", "metadata", "$echo", "1", "%2e%2e", "%2e", ""]),
    st.text(max_size=8).map(lambda text: quote(text, safe="")),
    st.binary(max_size=4).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw)),
)
paths = st.lists(segments, max_size=5).map("/".join)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30)
header_names = [
    "accept",
    "accept-encoding",
    "content-type",
    "content-length",
    "content-encoding",
    "if-match",
    "if-none-match",
    "if-none-exist",
    "prefer",
    "x-request-id",
    "x-correlation-id",
    "host",
]
headers = st.dictionaries(st.sampled_from(header_names), header_text, max_size=4)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["2026-02-29", "9999-12-31T24:00:00Z", "0001", "urn:uuid:1", "Patient/1", "#"]),
)
NAMES = (
    "id meta text contained extension name subject status value valueQuantity code birthDate "
    "reference url entry resource request method type parameter part item versionId system "
    "lastUpdated tag identifier _birthDate coding period start valueDecimal fullUrl"
)
names = st.one_of(st.sampled_from(NAMES.split()), st.text(max_size=6))
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)


@st.composite
def resources(draw: st.DrawFn) -> bytes:
    """Objects that look like resources, and so get far before they are refused."""
    tree = draw(st.dictionaries(names, trees, max_size=5))
    tree["resourceType"] = draw(st.sampled_from(TYPES))
    if draw(st.booleans()):
        tree["id"] = "1"
    return json.dumps(tree).encode(errors="replace")


bodies = st.one_of(st.binary(max_size=60), trees.map(lambda tree: json.dumps(tree).encode()))


def _answers_in_order(response: httpx.Response) -> None:
    assert response.status_code < 500, (response.request, response.text)
    if response.status_code >= 400 and response.request.method != "HEAD":
        assert outcome_issues(response)


@ANY
@given(method=methods, path=paths, query=st.text(max_size=30), sent=headers, content=bodies)
async def test_any_request_is_answered(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    query: str,
    sent: dict[str, str],
    content: bytes,
) -> None:
    url = httpx.URL(client.base_url).copy_with(
        raw_path=f"/fhir/{path}?{quote(query, safe='=&:,|$')}".encode()
    )
    raw = [(name.encode(), value.encode("latin-1")) for name, value in sent.items()]
    _answers_in_order(await client.request(method, url, headers=raw, content=content))


@ANY
@given(content=resources(), method=st.sampled_from(["POST", "PUT"]))
async def test_any_resource_is_stored_or_refused(
    client: httpx.AsyncClient, content: bytes, method: str
) -> None:
    name = json.loads(content)["resourceType"]
    url = name if method == "POST" else f"{name}/1"
    sent = {"content-type": "application/fhir+json"}
    _answers_in_order(await client.request(method, url, headers=sent, content=content))


@ANY
@given(
    kind=st.sampled_from(["transaction", "batch"]),
    entries=st.lists(
        st.fixed_dictionaries(
            {
                "request": st.fixed_dictionaries(
                    {
                        "method": st.sampled_from(
                            ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]
                        ),
                        "url": st.one_of(
                            paths, st.sampled_from(["Patient", "Patient/1", "Patient?name=x"])
                        ),
                    },
                    optional={"ifMatch": st.text(max_size=5), "ifNoneExist": st.text(max_size=9)},
                )
            },
            optional={
                "fullUrl": st.one_of(st.sampled_from(["urn:uuid:1", "x"]), st.text(max_size=5)),
                "resource": st.one_of(
                    trees,
                    st.sampled_from(
                        [
                            {"resourceType": "Patient", "id": "1"},
                            {"resourceType": "Patient", "contact": [{"name": {"text": "x"}}]},
                            {
                                "resourceType": "Task",
                                "status": "draft",
                                "intent": "order",
                                "for": {"reference": "urn:uuid:1"},
                            },
                        ]
                    ),
                ),
            },
        ),
        max_size=4,
    ),
)
async def test_any_bundle_is_answered(
    client: httpx.AsyncClient, kind: str, entries: list[dict[str, Any]]
) -> None:
    bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
    response = await client.post(
        "",
        content=json.dumps(bundle).encode(),
        headers={"content-type": "application/fhir+json"},
    )
    _answers_in_order(response)
    if response.status_code == 200:
        statuses = [entry["response"]["status"] for entry in response.json().get("entry", ())]
        assert not [status for status in statuses if status.startswith("5")], statuses


@ANY
@given(data=st.data())
async def test_any_search_is_answered(client: httpx.AsyncClient, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(resource_types()))
    codes = [*search_parameters(name), "_sort", "_count", "_include", "_total", "_page", "_has"]
    codes += ["_contained", "_containedType"]
    modifiers = ["", ":missing", ":not", ":exact", ":contains", ":text", ":in", ":Patient", ":x"]
    modifiers += [":not-in", ":above", ":below"]
    values = st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            [
                *("true", "gt2026", "sa9999", "ap0001-01-01", "lt-1e999", "a|b|c", "Patient/1"),
                *("1|x|y", "51.5|-0.1|1e99", "ValueSet/1", "http://vs", "http://s|a", "both"),
            ]
        ),
        st.from_regex(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?-?[0-9.eE|,$:TZ+-]{1,12}", fullmatch=True),
    )
    parameter = st.tuples(st.sampled_from(codes), st.sampled_from(modifiers), values)
    asked = data.draw(st.lists(parameter, min_size=1, max_size=3))
    response = await client.get(
        name, params=[(code + modifier, value) for code, modifier, value in asked]
    )
    _answers_in_order(response)
