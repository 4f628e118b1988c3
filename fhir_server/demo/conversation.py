"""Talking to a running FHIR server: each request kept beside its answer, to be shown."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource

_PATIENCE: Final = 30.0
_FHIR_JSON: Final = "application/fhir+json"
_UNESCAPED: Final = {"%3A": ":", "%2C": ",", "%2F": "/", "%24": "$"}


class CannotPlay(Exception):
    """The server is not there, or does not hold what the story needs; the text says what."""


class NotAsTold(Exception):
    """A step did not come out as the story says."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer."""

    method: str
    url: str
    headers: Mapping[str, str]
    """Those of the request that tell something."""
    sent: Resource | None
    status: int
    etag: str
    received: Any
    """The answer's JSON, None where it had no body."""

    def require(self, status: int) -> None:
        """Raise unless that was the answer's status.

        Raises:
            NotAsTold: with what the server said instead.
        """
        if self.status != status:
            said = "".join(f"\n  {problem}" for problem in self.problems)
            raise NotAsTold(f"{self.method} {self.url} answered {self.summary}, not {status}{said}")

    @property
    def resource(self) -> Resource:
        """The answer, which must be a resource."""
        if not isinstance(self.received, dict):
            raise NotAsTold(f"{self.method} {self.url} answered {self.summary} without a resource")
        return self.received

    @property
    def summary(self) -> str:
        """Such as `200 OK`."""
        known = self.status in set(HTTPStatus)
        return f"{self.status} {HTTPStatus(self.status).phrase}" if known else str(self.status)

    @property
    def problems(self) -> list[str]:
        """What an OperationOutcome says, with the place where it says one."""
        issues = self.received.get("issue", ()) if isinstance(self.received, dict) else ()
        return [_issue_text(issue) for issue in issues]

    def entries(self, mode: str, resource_type: str) -> list[Resource]:
        """Resources of a searchset.

        Raises:
            NotAsTold: the search was refused.
        """
        self.require(200)
        return [
            entry["resource"]
            for entry in self.resource.get("entry", ())
            if entry.get("search", {}).get("mode") == mode
            and entry["resource"]["resourceType"] == resource_type
        ]

    def next_page(self) -> str | None:
        links = self.resource.get("link", ())
        return next((str(link["url"]) for link in links if link["relation"] == "next"), None)


def _issue_text(issue: Resource) -> str:
    text = str(issue.get("diagnostics", issue.get("code")))
    place = ", ".join(issue.get("expression", ()))
    return f"{place}: {text}" if place else text


class Conversation:
    """With one server, whose base may end with a slash.

    Args:
        token: what is shown with each request, where the server asks for one.

    Raises:
        CannotPlay: from each request, when nobody answers it or what answers is no FHIR JSON.
    """

    def __init__(
        self,
        server: str,
        transport: httpx.BaseTransport | None = None,
        token: Callable[[], str] | None = None,
    ) -> None:
        self.base: Final = server.rstrip("/")
        self.requests = 0
        self._token: Final = token
        self._client: Final = httpx.Client(
            headers={"accept": _FHIR_JSON},
            timeout=_PATIENCE,
            transport=transport,
            trust_env=not is_loopback(server),  # no proxy stands before this machine
        )

    def close(self) -> None:
        self._client.close()

    def get(self, address: str, *parameters: tuple[str, str]) -> Exchange:
        return self._exchange("GET", self._url(address, parameters), {}, None)

    def post(self, address: str, resource: Resource) -> Exchange:
        return self._exchange("POST", self._url(address), {}, resource)

    def put(self, resource: Resource, if_match: str = "") -> Exchange:
        """An update; of what is not there yet without `if_match`."""
        address = f"{resource['resourceType']}/{resource['id']}"
        headers = {"If-Match": if_match} if if_match else {}
        return self._exchange("PUT", self._url(address), headers, resource)

    def send(self, address: str, content: str, media: str) -> httpx.Response:
        """What is no FHIR JSON, such as a message of HL7 v2."""
        headers = {"content-type": media, "accept": media}
        return self._answer("POST", self._url(address), headers, content.encode())

    def fetch(self, address: str, media: str) -> httpx.Response:
        """What is asked for in that media type, such as a page to read."""
        return self._answer("GET", self._url(address), {"accept": media}, None)

    def pages(self, address: str, *parameters: tuple[str, str]) -> Iterator[Exchange]:
        """All pages of a search."""
        page = self.get(address, *parameters)
        yield page
        while following := page.next_page():
            page = self._exchange("GET", following, {}, None)
            yield page

    def _url(self, address: str, parameters: Sequence[tuple[str, str]] = ()) -> str:
        query = str(httpx.QueryParams(list(parameters)))
        for escaped, plain in _UNESCAPED.items():
            query = query.replace(escaped, plain)
        return f"{self.base}/{address}" + (f"?{query}" if query else "")

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], sent: Resource | None
    ) -> Exchange:
        typed = {"content-type": _FHIR_JSON} if sent is not None else {}
        content = None if sent is None else json.encode(sent)
        answer = self._answer(method, url, {**headers, **typed}, content)
        etag = answer.headers.get("etag", "")
        return Exchange(method, url, headers, sent, answer.status_code, etag, _decoded(answer))

    def _answer(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        self.requests += 1
        shown = {} if self._token is None else {"authorization": f"Bearer {self._token()}"}
        try:
            return self._client.request(method, url, content=content, headers={**headers, **shown})
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CannotPlay(f"No answer from {url}: {error or type(error).__name__}") from None


def _decoded(answer: httpx.Response) -> Any:
    if not answer.content:
        return None
    try:
        return json.decode(answer.content)
    except FhirError:
        raise CannotPlay(
            f"{answer.request.url} answered {answer.status_code}, but not in FHIR JSON"
        ) from None


def is_loopback(server: str) -> bool:
    """Whether the address is one of this machine."""
    host = urlsplit(server).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
