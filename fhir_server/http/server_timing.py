"""The header `Server-Timing`: milliseconds of the whole answer, and of waiting for the store.

https://www.w3.org/TR/server-timing/
"""

from time import perf_counter

from fhir_server.http.messages import Handler, HttpAnswer, HttpRequest
from fhir_server.stopwatch import RUNNING, Stopwatch


def telling(handle: Handler) -> Handler:
    """The handler, with the header on each of its answers."""

    async def told(request: HttpRequest) -> HttpAnswer:
        watch, began = Stopwatch(), perf_counter()
        measured = RUNNING.set(watch)
        try:
            answered = await handle(request)
        finally:
            RUNNING.reset(measured)
        total = perf_counter() - began
        answered.headers["server-timing"] = f"store;dur={_ms(watch.store)}, total;dur={_ms(total)}"
        return answered

    return told


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"
