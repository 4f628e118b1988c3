"""Asking operations that only read, and how many questions of the store that takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from fhir_server.storage.interface import Store
from tests.operations.messages import JSON
from tests.support import exact


async def got(client: httpx.AsyncClient, address: str) -> JSON:
    answer = await client.get(address)
    assert answer.status_code == 200, answer.text
    found: JSON = exact(answer)
    return found


def named(answer: JSON, name: str) -> list[JSON]:
    return [one for one in answer.get("parameter", ()) if one["name"] == name]


def parts(parameter: JSON) -> dict[str, Any]:
    """What the parts say, by name; parts of parts as such."""
    return {part["name"]: part.get("part") or _value(part) for part in parameter["part"]}


def _value(part: JSON) -> Any:
    return next(value for name, value in part.items() if name.startswith("value"))


@contextmanager
def counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The types that were searched for meanwhile, one for each question."""
    asked: list[str] = []
    ask = type(store).search

    async def search(self: Any, query: Any, *rest: Any, **more: Any) -> Any:
        asked.append(getattr(query, "resource_type", "several"))
        return await ask(self, query, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "search", search)
        yield asked
