"""What every request passes through, in one list: the first is the outermost."""

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter
from typing import Final
from urllib.parse import parse_qsl

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.references import new_id
from fhir_server.http import render
from fhir_server.http.gzip import compressed, is_worthwhile
from fhir_server.http.headers import require_sound, url_too_long
from fhir_server.http.messages import Handler, HttpAnswer, HttpRequest, Middleware
from fhir_server.http.negotiate import Gzip, Presentation, gzip_taken, presentation_of_error
from fhir_server.logs import REQUESTS

_log: Final = logging.getLogger(__name__)
requests_log: Final = logging.getLogger(REQUESTS)
"""Of lines about single requests; silent unless the settings want them."""
VARY: Final = "Accept, Accept-Encoding, Prefer"
CACHE_CONTROL: Final = "private, no-cache"
_PLAIN: Final = re.compile(r"[\x21-\x7e]{1,128}")


async def mirror_ids(request: HttpRequest, handle: Handler) -> HttpAnswer:
    """`X-Request-ID` and `X-Correlation-ID` come back as they were sent.

    A request without an id is given one, so that an answer can always be asked about.
    """
    request.request_id = plain_id(request.headers.get("x-request-id")) or new_id()
    answered = await handle(request)
    answered.headers["x-request-id"] = request.request_id
    correlation = plain_id(request.headers.get("x-correlation-id"))
    if correlation:
        answered.headers["x-correlation-id"] = correlation
    return answered


def plain_id(given: str | None) -> str:
    """An id that can be sent back; '' for none, and for one that is sent back by nobody."""
    return given if given and _PLAIN.fullmatch(given) else ""


async def answer_errors(request: HttpRequest, handle: Handler) -> HttpAnswer:
    """Every error leaves as an OperationOutcome; an unforeseen one tells nothing of the inside."""
    try:
        return await handle(request)
    except FhirError as error:
        refusal = error
    except Exception:
        _log.exception("Request %s failed", request.request_id)
        text = f"The server failed; the request id is {request.request_id}"
        refusal = FhirError(Kind.INTERNAL, text)
    return await render.presented(render.error(refusal), request.look or _look(request))


def _look(request: HttpRequest) -> Presentation:
    """Of a refusal that came before it was read how an answer is to look."""
    parameters: list[tuple[str, str]] = []
    with suppress(ValueError):
        parameters = parse_qsl(request.query, max_num_fields=1000)
    return presentation_of_error(request.headers, parameters)


async def audited(request: HttpRequest, handle: Handler) -> HttpAnswer:
    """Each request leaves one row in the audit, and nothing is read while that cannot be.

    Inside `answer_errors`: what is refused here is told as any refusal, and what was refused
    further in comes by as an error. A write has its row in its commit.
    """
    record = request.record
    if record is None:
        return await handle(request)
    record.request_id = request.request_id
    record.trail.require_open()
    try:
        answered = await handle(request)
    except FhirError as error:
        record.close(error.kind.status, str(error))
        raise
    except BaseException as error:  # also where the client went away, and nothing can be awaited
        record.close(500, f"The server failed: {type(error).__name__}")
        raise
    record.close(answered.status, body=answered.body)
    await record.settle()
    return answered


async def count_failures(request: HttpRequest, handle: Handler) -> HttpAnswer:
    """Whoever tries one token after the other is told to wait."""
    try:
        return await handle(request)
    except FhirError as error:
        if error.kind is Kind.UNAUTHENTICATED:
            request.rates.failed(request.address)
        raise


async def note(request: HttpRequest, handle: Handler) -> HttpAnswer:
    """A line of the log for each request, where the settings want it: nothing about people."""
    if not requests_log.isEnabledFor(logging.INFO):
        return await handle(request)
    started = perf_counter()
    answered = await handle(request)
    told = _told(request, answered.status, perf_counter() - started)
    requests_log.info("%s", " ".join(f"{name}={value}" for name, value in told.items()), extra=told)
    return answered


def _told(request: HttpRequest, status: int, seconds: float) -> dict[str, str | int | float]:
    """Of the address, which may hold a name or an NHS number, what is of the server's own tables.

    An operation is named where it was carried out: until then its name is the client's.
    """
    match = request.match
    carried_out = match is not None and status < 400
    return {
        "interaction": match.interaction.code if match else "-",
        "type": match.resource_type or "-" if match else "-",
        "operation": match.operation or "-" if match and carried_out else "-",
        "status": status,
        "ms": round(seconds * 1000, 1),
        "request_id": request.request_id,
        "client": request.caller.client or "-",
    }


async def compress(request: HttpRequest, handle: Handler) -> HttpAnswer:
    """gzip, where the client takes it and the answer is long enough to gain by it."""
    answered = await handle(request)
    answered.headers["vary"] = VARY
    if is_compressed(request.headers.get("accept-encoding"), answered.body):
        answered.body = await compressed(answered.body)
        answered.headers["content-encoding"] = "gzip"
    return answered


def is_compressed(accept_encoding: str | None, body: bytes) -> bool:
    """Whether the body goes out compressed."""
    if accept_encoding is None:
        return False
    taken = gzip_taken(accept_encoding)
    return (taken is Gzip.YES and is_worthwhile(body)) or (taken is Gzip.ONLY and bool(body))


async def forbid_caching(request: HttpRequest, handle: Handler) -> HttpAnswer:
    """Records about people are kept by nobody in between, and are asked for anew each time."""
    answered = await handle(request)
    answered.headers["cache-control"] = CACHE_CONTROL
    return answered


async def refuse_unsound(request: HttpRequest, handle: Handler) -> HttpAnswer:
    """What is too long, or could be read in two ways, goes no further."""
    if len(request.path) + len(request.query) > request.limits.max_url:
        raise FhirError(Kind.URL_TOO_LONG, url_too_long(request.limits))
    require_sound(request.received, request.limits)
    return await handle(request)


MIDDLEWARE: Final[tuple[Middleware, ...]] = (
    note,
    mirror_ids,
    forbid_caching,
    compress,
    answer_errors,
    audited,
    count_failures,
    refuse_unsound,
)


AT_THE_DOOR: Final[tuple[Middleware, ...]] = (
    note,
    mirror_ids,
    forbid_caching,
    compress,
    answer_errors,
)
"""Of what is refused before anything of it is looked at: it leaves no row in the audit."""


def wrapped(handle: Handler, inside: Sequence[Middleware] = MIDDLEWARE) -> Handler:
    """The handler inside all of them."""
    for middleware in reversed(inside):
        handle = _inside(middleware, handle)
    return handle


def _inside(middleware: Middleware, handle: Handler) -> Handler:
    return lambda request: middleware(request, handle)
