"""Answers that were put together earlier, shown as whoever asks may read now.

Repeated answers, results and files of jobs were made when more may have been allowed: a consent
that is withdrawn closes them too.
"""

import asyncio
from collections.abc import Iterator
from typing import Final

from fhir_server.access.session import Data
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource

_TURN: Final = 64
"""Resources after which others have their turn."""


async def as_readable_now(data: Data, body: bytes) -> bytes:
    """The body; without resources where it holds one that may not be read any more."""
    if not body:
        return body
    told = json.decode_own(body)
    for number, resource in enumerate(_resources(told), 1):
        if await _is_hidden(data, resource):
            return _bare(told)
        if number % _TURN == 0:
            await asyncio.sleep(0)
    return body


async def lines_readable_now(data: Data, lines: bytes) -> bytes:
    """Of resources, one a line, those that may be read."""
    shown: list[bytes] = []
    for number, line in enumerate(lines.splitlines(keepends=True), 1):
        if not await _is_hidden(data, json.decode_own(line)):
            shown.append(line)
        if number % _TURN == 0:
            await asyncio.sleep(0)
    return b"".join(shown)


def _bare(told: Resource) -> bytes:
    """What became of each entry, and no more."""
    if told["resourceType"] != "Bundle":
        return b""
    entries = [{name: one[name] for name in one if name != "resource"} for one in told["entry"]]
    return json.encode({**told, "entry": entries})


def _resources(told: Resource) -> Iterator[Resource]:
    yield told
    for one in (*told.get("entry", ()), *told.get("parameter", ())):
        if "resource" in one:
            yield from _resources(one["resource"])


async def _is_hidden(data: Data, resource: Resource) -> bool:
    """Whether it is a version that may not be read; what was never stored is none."""
    version = resource.get("meta", {}).get("versionId")
    if "id" not in resource or not (isinstance(version, str) and version.isdecimal()):
        return False
    return await data.vread(resource["resourceType"], resource["id"], int(version)) is None
