"""Addresses in settings: what a server may be told to call."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

OF_ADDRESSES: Final = re.compile(r"[\w.~:/\[\]@!$&()*+,;=%?#-]*", re.ASCII)
"""What may stand in an address (RFC 3986), but for the quotation mark: shells read it too."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def wrong_with_base(address: str) -> str:
    """Why it is no http or https address without query, fragment and user; '' where it is one."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        return f"is no address: {error}"
    if parts.scheme not in ("http", "https"):
        return "is not an http or https address"
    if not parts.hostname or port == 0:
        return "has no host, or port 0"
    if "?" in address or "#" in address:
        return "has a query or fragment"
    if "@" in parts.netloc:
        return "has a user in it"
    return "" if OF_ADDRESSES.fullmatch(address) else "has a character that stands in no address"


def require_outgoing(setting: str, address: str) -> None:
    """Raise for an address that is not https, or http on this machine; '' is none at all.

    Raises:
        ValueError: naming the setting.
    """
    if not address:
        return
    wrong = wrong_with_base(address)
    parts = urlsplit(address) if not wrong else None
    if parts is not None and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        wrong = "is http, which is for this machine only"
    if wrong:
        raise ValueError(f"{setting} {wrong}; https://idp.example.nhs.uk/auth is one")
