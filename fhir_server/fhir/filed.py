"""A resource in a file: its heading is known, the rest is read when it is asked for.

A server may have packages of many thousand definitions and need a dozen of them.
Source: https://hl7.org/fhir/R4/metadataresource.html (the elements of the heading)
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from fhir_server.fhir.json import Resource

_KEPT: Final = 32
"""Resources whose content is kept: a definition is gone through several times when it is used."""


class _Heading(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource_type: Any = msgspec.UNSET
    id: Any = msgspec.UNSET
    url: Any = msgspec.UNSET
    version: Any = msgspec.UNSET
    status: Any = msgspec.UNSET
    type: Any = msgspec.UNSET
    derivation: Any = msgspec.UNSET
    base_definition: Any = msgspec.UNSET


_heading: Final = msgspec.json.Decoder(_Heading)
_NAMES: Final = {one.encode_name: one.name for one in msgspec.structs.fields(_Heading)}


class Filed(Mapping[str, Any]):
    """The elements of the resource; nobody changes them.

    Args:
        content: of the file, as it is now.
        read: gives the whole resource when it is asked for; it may raise.

    Raises:
        ValueError: for content that is no JSON object.
    """

    __slots__ = ("_heading", "_read", "digest", "size")

    def __init__(self, content: bytes, read: Callable[[], Resource]) -> None:
        self._heading = _heading.decode(content)
        self._read = read
        self.size = len(content)
        self.digest = hashlib.sha256(content).hexdigest()

    def whole(self) -> Resource:
        return _content(self)

    def fresh(self) -> Resource:
        """As `whole`, for who keeps it."""
        return self._read()

    def __getitem__(self, name: str) -> Any:
        if name not in _NAMES:
            return self.whole()[name]
        value = getattr(self._heading, _NAMES[name])
        if value is msgspec.UNSET:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole())

    def __len__(self) -> int:
        return len(self.whole())

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


@lru_cache(maxsize=_KEPT)
def _content(filed: Filed) -> Resource:
    return filed.fresh()
