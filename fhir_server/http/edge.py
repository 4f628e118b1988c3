"""What stands on every answer, of FHIR and beside it: headers that browsers keep to, and CORS.

https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html#security-headers,
https://fetch.spec.whatwg.org/#http-cors-protocol. Nothing that this server sends is a page, so a
browser is told to run, frame and guess nothing. Scripts of other origins may read answers where
the settings name their origin, letter by letter: no origin is sent back because it was sent.
Cookies have no part in it, so credentials in the sense of CORS are never allowed.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Final

Scope = Mapping[str, Any]
Message = MutableMapping[str, Any]
Send = Callable[[Any], Awaitable[None]]
Raw = tuple[tuple[bytes, bytes], ...]
Headers = list[tuple[bytes, bytes]]

_BEGINNINGS: Final = ("http.response.start", "websocket.http.response.start")
"""Of answers; the second of one in the place of a websocket."""
_POLICY: Final = b"content-security-policy"
_ALWAYS: Final[Raw] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_POLICIES: Final = (_POLICY, b"default-src 'none'; frame-ancestors 'none'")
_SECURE: Final[Raw] = ((b"strict-transport-security", b"max-age=31536000"),)
"""A year: https://www.rfc-editor.org/rfc/rfc6797#section-6.1"""
_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_SENT: Final = (
    b"Accept, Authorization, Content-Encoding, Content-Type, If-Match, If-Modified-Since, "
    b"If-None-Exist, If-None-Match, Prefer, X-Correlation-ID, X-Provenance, X-Request-ID, "
    b"X-Security-Context"
)
_READ: Final = (
    b"Content-Disposition, Content-Location, ETag, Expires, Last-Modified, Location, "
    b"Preference-Applied, Retry-After, WWW-Authenticate, X-Correlation-ID, X-Progress, "
    b"X-Request-ID, X-Security-Context"
)
_PREFLIGHT: Final[Raw] = (
    (b"access-control-allow-methods", _METHODS),
    (b"access-control-allow-headers", _SENT),
    (b"access-control-max-age", b"600"),
)


class Edge:
    """The outermost layer of the application.

    Args:
        origins: whose scripts may ask, as a browser writes them in `Origin`.
        secure: whether clients reach the server by https alone.
    """

    def __init__(self, origins: Sequence[str] = (), *, secure: bool = False) -> None:
        self._allowed: Final = {
            origin.encode(): (
                (b"access-control-allow-origin", origin.encode()),
                (b"access-control-expose-headers", _READ),
            )
            for origin in origins
        }
        self.headers: Final[Raw] = _ALWAYS + (_SECURE if secure else ())

    def on_refusal(self) -> Mapping[str, str]:
        """What stands on an answer that is made before there is a request."""
        return {name.decode(): value.decode() for name, value in (*self.headers, _POLICIES)}

    def sending(self, scope: Scope, send: Send) -> Send:
        """`send`, with the headers on what is sent."""
        crossing = self._crossing(scope)

        async def sent(message: Message) -> None:
            if message["type"] in _BEGINNINGS:
                message["headers"] = self.complete(message["headers"], crossing)
            await send(message)

        return sent

    def complete(self, headers: Iterable[tuple[bytes, bytes]], crossing: Raw = ()) -> Headers:
        """All headers of an answer, with what a script of an allowed origin needs."""
        found = self._with_policy(headers)
        return _varying(found, crossing) if self._allowed else found

    def is_preflight(self, scope: Scope) -> bool:
        """Whether a browser asks for an origin that is allowed if it may ask."""
        return (
            scope["method"] == "OPTIONS"
            and bool(self._crossing(scope))
            and any(name == b"access-control-request-method" for name, _ in scope["headers"])
        )

    async def answer_preflight(self, send: Send) -> None:
        """It comes without a token, and is answered without looking at what it is about."""
        await send({"type": "http.response.start", "status": 204, "headers": [*_PREFLIGHT]})
        await send({"type": "http.response.body", "body": b""})

    def _crossing(self, scope: Scope) -> Raw:
        """What a script of an allowed origin needs to be shown the answer."""
        if not self._allowed:
            return ()
        told = [value for name, value in scope["headers"] if name == b"origin"]
        return self._allowed.get(told[0], ()) if len(told) == 1 else ()

    def _with_policy(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """With a policy, unless they have one of their own, and with what stands on all."""
        for name, _ in headers:
            if name == _POLICY:
                return [*headers, *self.headers]
        return [*headers, _POLICIES, *self.headers]


def _varying(headers: Headers, crossing: Raw) -> Headers:
    """With what depends on the origin; a cache is told that it does."""
    told = [value for name, value in headers if name == b"vary"]
    others = [pair for pair in headers if pair[0] != b"vary"]
    return [*others, *crossing, (b"vary", b", ".join([*told, b"Origin"]))]
