"""The authorisation server over HTTP: forms in, JSON out, nothing kept by anybody in between."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fhir_server.authorisation.authority import Authority, Form
from fhir_server.authorisation.gate import Gate
from fhir_server.authorisation.refusals import Refusal, invalid_request
from fhir_server.errors import FhirError, Kind

PATH: Final = "/auth"
"""Where it stands below the host."""
_WELL_KNOWN: Final = "/.well-known/oauth-authorization-server"
"""Before the path of an issuer: https://www.rfc-editor.org/rfc/rfc8414#section-3.1."""
MAX_BODY: Final = 64 * 1024
"""Bytes of a form."""
_MOST_FIELDS: Final = 20
_FORM: Final = "application/x-www-form-urlencoded"
_NOT_KEPT: Final = {"cache-control": "no-store", "pragma": "no-cache"}
_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="auth"'}
"""HTTP asks for one with each 401; how a client says who it is, stands in the error."""
_KEYS_GOOD_FOR: Final = 60
"""Seconds for which others may keep the key set."""

_log: Final = logging.getLogger(__name__)
Answer = Callable[[Form], Awaitable[Response]]


def routes(
    authority: Callable[[Request], Authority], gate: Callable[[Request], Gate]
) -> list[Route]:
    """What stands below `/auth`, and where that is told."""

    async def token(request: Request) -> Response:
        async def answer(form: Form) -> Response:
            return _json(await authority(request).token(form, gate(request).address(request)))

        return await _answered(request, gate(request), answer)

    async def revoke(request: Request) -> Response:
        async def answer(form: Form) -> Response:
            await authority(request).revoke(form, gate(request).address(request))
            return Response(status_code=200, headers=_NOT_KEPT)

        return await _answered(request, gate(request), answer)

    async def introspect(request: Request) -> Response:
        async def answer(form: Form) -> Response:
            told = await authority(request).introspect(form, gate(request).address(request))
            return _json(told)

        return await _answered(request, gate(request), answer)

    return [
        Route(f"{PATH}/token", token, methods=["POST"]),
        Route(f"{PATH}/revoke", revoke, methods=["POST"]),
        Route(f"{PATH}/introspect", introspect, methods=["POST"]),
        *_open_routes(authority, gate),
    ]


def _open_routes(
    authority: Callable[[Request], Authority], gate: Callable[[Request], Gate]
) -> list[Route]:
    """What everybody may ask."""

    async def jwks(request: Request) -> Response:
        async def answer() -> Response:
            gate(request).admit(request)
            found = await authority(request).jwks()
            kept = {"cache-control": f"public, max-age={_KEYS_GOOD_FOR}"}
            return JSONResponse(found, headers=kept)

        return await _without_fault(answer)

    async def described(request: Request) -> Response:
        async def answer() -> Response:
            gate(request).admit(request)
            return JSONResponse(authority(request).described())

        return await _without_fault(answer)

    return [
        Route(f"{PATH}/jwks", jwks, methods=["GET"]),
        Route(f"{_WELL_KNOWN}{PATH}", described, methods=["GET"]),
    ]


async def _answered(request: Request, gate: Gate, answer: Answer) -> Response:
    async def work() -> Response:
        return await answer(await _form(request))

    return await _without_fault(lambda: gate.authenticated(request, work))


async def _without_fault(work: Callable[[], Awaitable[Response]]) -> Response:
    """Every refusal and fault as https://www.rfc-editor.org/rfc/rfc6749#section-5.2 has it."""
    try:
        return await work()
    except Refusal as refusal:
        return _refused(refusal)
    except FhirError as error:
        waiting = error.kind is Kind.THROTTLED
        answered = _refused(Refusal("temporarily_unavailable", str(error), 429 if waiting else 503))
        if waiting:
            answered.headers["retry-after"] = str(error.retry_after)
        return answered
    except Exception:
        _log.exception("A request to the authorisation server failed")
        return _refused(Refusal("server_error", "The server failed", 500))


def _refused(refusal: Refusal) -> Response:
    told = {"error": refusal.error, "error_description": refusal.text}
    challenge = _CHALLENGE if refusal.status == 401 else {}
    return _json(told, refusal.status, challenge)


def _json(told: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(told, status, {**_NOT_KEPT, **(headers or {})})


async def _form(request: Request) -> Form:
    """The form; nothing in it stands twice, and nothing in the address.

    Raises:
        Refusal: invalid_request, invalid_client for another way to say who one is.
    """
    if request.url.query:
        raise invalid_request("the parameters stand in the body, never in the address")
    if "authorization" in request.headers:
        text = "clients say who they are by client_assertion, and not by an Authorization header"
        raise Refusal("invalid_client", text, 401)
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != _FORM:
        raise invalid_request(f"the body is {_FORM}")
    return _fields(await _body(request))


async def _body(request: Request) -> bytes:
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > MAX_BODY:
            raise Refusal("invalid_request", f"the body has more than {MAX_BODY} bytes", 413)
    return content


def _fields(content: bytes) -> Form:
    """https://www.rfc-editor.org/rfc/rfc6749#section-3.2: without a value is as if not there."""
    try:
        pairs = parse_qsl(
            content.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(content),
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise invalid_request(f"the body is no form of at most {_MOST_FIELDS} fields") from None
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise invalid_request(f"{', '.join(twice)[:200]} stands twice")
    return {name: value for name, value in pairs if value}
