"""What the server tells of itself in OpenAPI."""

import asyncio
from functools import cache
from typing import Any

from fastapi import Request as HttpQuestion
from fastapi import Response

from fhir_server.answering import http_limits, search_limits
from fhir_server.http import openapi
from fhir_server.http.negotiate import Gzip, gzip_taken
from fhir_server.http.openapi import Described
from fhir_server.interactions.table import ROUTER
from fhir_server.operation.registry import Operations
from fhir_server.operation.wired import wired
from fhir_server.settings import PATH, Settings, refuse_unknown_variables


def described(settings: Settings, operations: Operations, base: str) -> Described:
    """What the OpenAPI description tells of a server at `base`."""
    return Described(
        base=base,
        router=ROUTER,
        operations=operations,
        limits=search_limits(settings),
        http=http_limits(settings),
        max_entries=settings.max_entries,
        conditional_delete=settings.conditional_delete,
        tokens=settings.auth == "token",
    )


def printed_description() -> bytes:
    """The OpenAPI description of the server that the environment's settings make.

    Raises:
        ValueError: for settings that do not fit.
        BadOperation: for packages of operations that cannot be used.
    """
    refuse_unknown_variables()
    settings = Settings()
    return openapi.encoded(described(settings, wired(settings.operations)[0], settings.base))


def description(settings: Settings, operations: Operations) -> Any:
    told = described(settings, operations, settings.public_base.rstrip("/") or PATH)
    made = cache(lambda: openapi.compressed(told))  # when it is first asked for

    async def answer(request: HttpQuestion) -> Response:
        """The OpenAPI description."""
        plain, gzip = await asyncio.to_thread(made)
        headers = {"vary": "Accept-Encoding", "cache-control": "no-cache"}
        if gzip_taken(request.headers.get("accept-encoding")) is Gzip.NO:
            return Response(plain, headers=headers, media_type="application/json")
        headers["content-encoding"] = "gzip"
        return Response(gzip, headers=headers, media_type="application/json")

    return answer
