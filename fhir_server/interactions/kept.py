"""Answers that were put together earlier, shown as whoever asks may read now.

Repeated answers, results and files of jobs were made when more may have been allowed: a consent
that is withdrawn closes them too.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from fhir_server.access.session import Data, StoredVersion
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.fhir.summary import SUBSETTED

_MASKED: Final = f'"{SUBSETTED["code"]}"'.encode()
_TURN: Final = 64
"""Resources after which others have their turn."""


async def as_readable_now(data: Data, body: bytes, *, is_same: bool = True) -> bytes:
    """The body; without resources where it holds one that may not be read any more.

    Args:
        is_same: whether the caller may read what they might when it was made. Else what was
            worked out of that is not shown either: a total, and whatever was never stored.
    """
    if not body:
        return body
    told = json.decode_own(body)
    for number, resource in enumerate(_resources(told), 1):
        if await _is_hidden(data, resource):
            return _bare(told)
        if number % _TURN == 0:
            await asyncio.sleep(0)
    if is_same:
        return body
    return b"" if _is_worked_out(told) else json.encode(_stored_alone(told))


async def lines_readable_now(data: Data, lines: bytes) -> bytes:
    """Of resources, one a line, those that may be read."""
    shown: list[bytes] = []
    for number, line in enumerate(lines.splitlines(keepends=True), 1):
        if not await _is_hidden(data, json.decode_own(line)):
            shown.append(line)
        if number % _TURN == 0:
            await asyncio.sleep(0)
    return b"".join(shown)


async def deletions_readable_now(data: Data, lines: bytes) -> bytes:
    """Of deletions, one a line, those of what may still be known to have been there."""
    shown: list[bytes] = []
    for line in lines.splitlines(keepends=True):
        entries = json.decode_own(line)["entry"]
        named = [one["request"]["url"].split("/") for one in entries]
        if all([await data.read(kind, resource_id) for kind, resource_id in named]):
            shown.append(line)
    return b"".join(shown)


async def as_told(data: Data, lines: bytes) -> bytes:  # noqa: ARG001
    """What the server says of what it was asked, and quotes nothing that is stored."""
    return lines


def _bare(told: Resource) -> bytes:
    """What became of each entry, and no more."""
    if told["resourceType"] != "Bundle":
        return b""
    entries = [{name: one[name] for name in one if name != "resource"} for one in told["entry"]]
    return json.encode({**_without_total(told), "entry": entries})


def _stored_alone(told: Resource) -> Resource:
    """The same, its Bundles without how many were found and what was worked out."""
    if told["resourceType"] != "Bundle" or _version(told) is not None:
        return told
    entries = [_stored_alone_of(one) for one in told.get("entry", ())]
    return _without_total(told) | ({"entry": entries} if entries else {})


def _stored_alone_of(entry: Resource) -> Resource:
    resource = entry.get("resource")
    if resource is None:
        return entry
    rest = {name: value for name, value in entry.items() if name != "resource"}
    return rest if _is_worked_out(resource) else {**rest, "resource": _stored_alone(resource)}


def _is_worked_out(resource: Resource) -> bool:
    """Whether it was never stored, and is no frame of what was, and no word about the request."""
    frames = ("Bundle", "OperationOutcome")
    return _version(resource) is None and resource["resourceType"] not in frames


def _version(resource: Resource) -> int | None:
    """Of what is stored."""
    version = resource.get("meta", {}).get("versionId")
    is_one = "id" in resource and isinstance(version, str) and version.isdecimal()
    return int(version) if is_one else None


def _without_total(bundle: Resource) -> Resource:
    return {name: value for name, value in bundle.items() if name != "total"}


def _resources(told: Resource) -> Iterator[Resource]:
    yield told
    for one in (*told.get("entry", ()), *told.get("parameter", ())):
        if "resource" in one:
            yield from _resources(one["resource"])


async def _is_hidden(data: Data, resource: Resource) -> bool:
    """Whether it tells what may not be read any more.

    A version may be seen in part by now. What was never stored was worked out from what it names.
    """
    version = _version(resource)
    if version is None:
        return resource["resourceType"] == "Parameters" and await _names_hidden(data, resource)
    found = await data.vread(resource["resourceType"], resource["id"], version)
    return found is None or (_MASKED in found.body and not _is_within(resource, found))


def _is_within(resource: Resource, seen: StoredVersion) -> bool:
    """Whether nothing was kept that is left out where the version is seen in part."""
    shown = json.decode_own(seen.body)
    if not any(one.get("code") == SUBSETTED["code"] for one in shown["meta"].get("tag", ())):
        return True  # it is seen as a whole, and says that word somewhere
    meta = {name: value for name, value in resource["meta"].items() if name != "tag"}
    return meta.items() <= shown["meta"].items() and all(
        shown.get(name) == value for name, value in resource.items() if name != "meta"
    )


async def _names_hidden(data: Data, resource: Resource) -> bool:
    for text in _references(resource.get("parameter", ())):
        named = parse_relative(text)
        if named is not None and await data.read(named.type, named.id) is None:
            return True
    return False


def _references(node: Any) -> Iterator[str]:
    """Of values; the resources in it are looked at by themselves."""
    for one in node:
        told = one.get("valueReference", {}).get("reference")
        if isinstance(told, str):
            yield told
        yield from _references(one.get("part", ()))
