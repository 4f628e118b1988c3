"""What is served beside FHIR: health, where tokens come from, and what is nowhere."""

from typing import Any

from fastapi import FastAPI, Response
from fastapi import Request as HttpQuestion
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket

from fhir_server.access.tokens.smart import SmartConfiguration
from fhir_server.errors import FhirError, Kind
from fhir_server.events.binding import WEBSOCKET_PATH
from fhir_server.http import render
from fhir_server.http.middleware import VARY
from fhir_server.settings import PATH


async def outside(request: HttpQuestion, error: Exception) -> Response:
    """What is asked beside the FHIR base, and is not there: whoever asks may have meant FHIR."""
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    kind = Kind.METHOD_NOT_ALLOWED if error.status_code == 405 else Kind.NOT_FOUND
    text = f"{request.method} {request.url.path} is nothing here; the FHIR base is {PATH}"
    answered = render.error(FhirError(kind, text))
    headers = {**answered.headers, "vary": VARY, **(error.headers or {})}
    return Response(answered.body, answered.status, headers)


async def no_websocket(socket: WebSocket) -> None:
    """A websocket that is asked for where there is none."""
    text = f"There is no websocket at {socket.url.path}; there is one at {PATH}/{WEBSOCKET_PATH}"
    answered = render.error(FhirError(Kind.NOT_FOUND, text))
    headers = {**answered.headers, "vary": VARY}
    await socket.send_denial_response(Response(answered.body, answered.status, headers))


def smart(told: SmartConfiguration | None) -> Any:
    document = {} if told is None else told.document()

    async def configuration() -> JSONResponse:
        """Where tokens come from; whoever has none may read it."""
        return JSONResponse(document)

    return configuration


async def live() -> JSONResponse:
    """The process answers."""
    return JSONResponse({"status": "live"})


def ready_check(app: FastAPI) -> Any:
    async def ready() -> JSONResponse:
        """The store answers too."""
        try:
            await app.state.store.ready()
            if app.state.trail is not None:
                app.state.trail.require_open()
        except FhirError as error:
            return JSONResponse({"status": "not ready", "reason": str(error)}, 503)
        return JSONResponse({"status": "ready"})

    return ready
