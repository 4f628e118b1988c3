"""What a proxy in front says of the address that the client used.

`Forwarded` (RFC 7239) or `X-Forwarded-Proto` with `X-Forwarded-Host`. Only a proxy that the
settings trust is believed: from anyone else the headers are not looked at. `Host` is never
looked at.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from fhir_server.errors import FhirError, Kind

_HOST: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]{0,252})|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII
)
_PAIR: Final = re.compile(r'\s*([a-z]+)=(?:"([^"\\]*)"|([^\s";,]+))\s*', re.ASCII | re.IGNORECASE)
_X_FORWARDED: Final = ("x-forwarded-proto", "x-forwarded-host")


class _Told(NamedTuple):
    proto: str
    host: str


class Proxies:
    """The proxies that are believed, by address or network; none by default."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks = tuple(ipaddress.ip_network(text) for text in networks)

    def trusts(self, address: str) -> bool:
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None) or found
        return any(mapped in network for network in self._networks)

    def origin(self, peer: str, headers: Mapping[str, str]) -> str | None:
        """`https://host[:port]` as the client knows it; None where no trusted proxy tells it.

        Raises:
            FhirError: INVALID for what is no address, and for two sorts of headers that differ:
                one of them then came past the proxy.
        """
        if not self.trusts(peer):
            return None
        told = [one for one in (self._forwarded(headers), _x_forwarded(headers)) if one]
        if len(set(told)) > 1:
            raise _refused("it differs from X-Forwarded-Proto and X-Forwarded-Host")
        if not told or not told[0].host:
            return None
        return _origin(told[0])

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """The address of the client: of those that trusted proxies tell, the last that is none.

        `Forwarded` or `X-Forwarded-For`; where both come and differ, one of them came past the
        proxy, and the proxy's own address is what is known.
        """
        if not self.trusts(peer):
            return peer
        told = [nodes for nodes in (_forwarded_for(headers), _x_forwarded_for(headers)) if nodes]
        if not told or any(nodes != told[0] for nodes in told):
            return peer
        found = peer
        for node in reversed(told[0]):
            if not _is_address(node):
                break
            found = node
            if not self.trusts(node):
                break
        return found

    def _forwarded(self, headers: Mapping[str, str]) -> _Told | None:
        """What the outermost of the trusted proxies says: each adds its element at the end."""
        header = headers.get("forwarded")
        if header is None:
            return None
        elements = [_element(text) for text in header.split(",")]
        chosen = elements.pop()
        while elements and self.trusts(_node(chosen.get("for", ""))):
            chosen = elements.pop()
        return _Told(chosen.get("proto", "http").lower(), chosen.get("host", "").lower())


def _forwarded_for(headers: Mapping[str, str]) -> list[str]:
    try:
        elements = [_element(text) for text in headers.get("forwarded", "").split(",") if text]
    except FhirError:
        return ["unknown"]
    return [_node(element.get("for", "unknown")) for element in elements]


def _x_forwarded_for(headers: Mapping[str, str]) -> list[str]:
    header = headers.get("x-forwarded-for", "")
    return [_without_port(text.strip()) for text in header.split(",")] if header else []


def _without_port(text: str) -> str:
    """Some proxies write a port behind an address of IPv4, or IPv6 in brackets."""
    return _node(text) if text.startswith("[") or text.count(":") == 1 else text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _element(text: str) -> Mapping[str, str]:
    pairs = [_PAIR.fullmatch(part) for part in text.split(";")]
    if not all(pairs):
        raise _refused(f"'{text.strip()[:200]}' is not a list of pairs such as host=example.org")
    return {pair[1].lower(): pair[2] or pair[3] or "" for pair in pairs if pair}


def _node(text: str) -> str:
    """The address in `for`, which may have a port behind it."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _x_forwarded(headers: Mapping[str, str]) -> _Told | None:
    """The last of each: the proxy next to the server added it."""
    if not any(name in headers for name in _X_FORWARDED):
        return None
    proto, host = (headers.get(name, "").rpartition(",")[2] for name in _X_FORWARDED)
    return _Told(proto.strip().lower() or "http", host.strip().lower())


def _origin(told: _Told) -> str:
    if told.proto not in ("http", "https"):
        raise _refused(f"'{told.proto[:20]}' is not http or https")
    if not _HOST.fullmatch(told.host):
        raise _refused(f"'{told.host[:100]}' is not a host")
    return f"{told.proto}://{told.host}"


def _refused(text: str) -> FhirError:
    return FhirError.at(Kind.INVALID, "http.Forwarded", f"What the proxy says is not clear: {text}")
