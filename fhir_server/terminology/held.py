"""Terminology resources that were read once, and what was made of them.

What is made of a resource is known by a digest of its content, so that nothing old is ever given
for a version that came after it, whoever stored it and in whatever store.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any, Final, TypeVar, cast

from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.terminology.elements import items, text
from fhir_server.terminology.systems import CodeSystem, code_system

_Made = TypeVar("_Made")
MOST: Final = 48 * 1024 * 1024
"""Bytes of memory for the meaning of resources, where no server has set another."""
_READ: Final = 6
"""Bytes of memory for each byte of JSON, measured on 20,000 and 100,000 concepts."""
_PREPARED: Final = 5
"""As many again for the code system that is made of it."""


def memory_of(size: int) -> int:
    """Bytes of memory for a code system of so many bytes of JSON."""
    return size * (_READ + _PREPARED)


class Held:
    """A resource, or the parts of one code system; nobody changes what it gives.

    Args:
        key: the same for the same content.
        size: bytes of JSON.
        cost: bytes of memory, where these are not what the size lets expect.
    """

    def __init__(
        self, key: str, *resources: Resource, size: int = 0, cost: int | None = None
    ) -> None:
        self.key: Final = key
        self.size: Final = size
        self.cost: Final = size * _factor(resources[0]) if cost is None else cost
        self.resource: Final = resources[0]
        self._others: Final = resources[1:]
        self._made: dict[Hashable, Any] = {}

    @cached_property
    def system(self) -> CodeSystem:
        return code_system(self.resource, *self._others)

    def once(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """What was made of the resource before under this key, or is made now."""
        if key not in self._made:
            self._made[key] = make()
        return cast(_Made, self._made[key])

    def listed(self, part: Resource) -> Mapping[str, Resource]:
        """The concepts that an include or exclude of this resource lists, by their codes."""
        # A part lives as long as its resource, and so does its id.
        return self.once(
            id(part), lambda: {text(one, "code"): one for one in items(part, "concept")}
        )

    @property
    def is_ready(self) -> bool:
        return "system" in self.__dict__

    def prepare(self) -> None:
        """Make the code system, which takes half a second for 50,000 concepts."""
        _ = self.system

    def joined(self, others: Sequence["Held"]) -> "Held":
        """With the other parts of the same code system."""
        every = (self, *others)
        key = "+".join(one.key for one in every)
        size = sum(one.size for one in every)
        # What was read, it has in common with its parts.
        return Held(key, *(one.resource for one in every), size=size, cost=size * _PREPARED)


def _factor(resource: Resource) -> int:
    """Of a code system that is one part of several, no code system is made by itself."""
    is_whole = text(resource, "content") not in ("", "fragment")
    return _READ + _PREPARED if is_whole else _READ


class Shelf:
    """The last resources that were asked for, within a bound; of whatever threads.

    Args:
        most: bytes of memory, by what resources are reckoned to cost.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._cost = 0
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> Held | None:
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
            return found

    def put(self, held: Held) -> Held:
        """Keep it, in place of those that were not asked for the longest."""
        with self._lock:
            if held.key not in self._held and held.cost <= self.most:
                self._held[held.key] = held
                self._cost += held.cost
            self._shrink()
        return held

    def allow(self, most: int) -> None:
        """Another bound from now on."""
        with self._lock:
            self.most = most
            self._shrink()

    def _shrink(self) -> None:
        while self._cost > self.most:
            _, gone = self._held.popitem(last=False)
            self._cost -= gone.cost


SHELF: Final = Shelf()
"""Of this process."""


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def read(body: bytes, shelf: Shelf = SHELF) -> Held:
    """The resource in these bytes, which this server wrote."""
    key = digest(body)
    return shelf.get(key) or shelf.put(Held(key, json.decode_own(body), size=len(body)))
