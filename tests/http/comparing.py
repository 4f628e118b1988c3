"""Answers of both ways, made comparable: what is made anew for each answer is looked into."""

import json
import re
import zlib
from dataclasses import replace
from typing import Final

from fhir_server.app import Application
from tests.http.wired import Told

_LINK: Final = re.compile(rb'\?_page=([^"]+)"')
_LENGTH: Final = re.compile(rb"content-length: \d+\r\n")


def comparable(app: Application, told: Told) -> Told:
    """With what links to further pages hold in the place of the links, as they are sealed anew
    each time; a body that was compressed is inflated for it, as another seal has another length."""
    head, _, body = told.answer.partition(b"\r\n\r\n")
    if b"content-encoding: gzip" in head:
        body = zlib.decompress(body, 31)
        head = _LENGTH.sub(b"", head)
    return replace(told, answer=head + b"\r\n\r\n" + _LINK.sub(lambda one: _held(app, one), body))


def _held(app: Application, link: re.Match[bytes]) -> bytes:
    assert app.fhir is not None
    plain, _ = app.fhir.server.pages.opened(link[1].decode())
    if not plain.startswith(b"["):
        plain = zlib.decompress(plain)
    return b'"' + json.dumps(json.loads(plain)).encode()
