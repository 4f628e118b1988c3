"""The address of a MongoDB store: `mongodb://` or `mongodb+srv://`, with the database's name."""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES: Final = ("mongodb://", "mongodb+srv://")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,60}", re.ASCII)
_EXAMPLE: Final = "mongodb://db1.example.nhs.uk,db2.example.nhs.uk/keyworking?replicaSet=rs0"
_SECRET: Final = re.compile(
    r"(?<=://).*@|(?<=password=)[^&]*|(?<=authMechanismProperties=)[^&]*", re.IGNORECASE | re.DOTALL
)
"""A password may have a slash in it that is not escaped: all before the last @ is hidden."""
_SHORTEST: Final = 3
"""Characters of what is hidden in a text; fewer would be anywhere in it."""


def is_mongo(store: str) -> bool:
    return store.startswith(SCHEMES)


def masked(store: str) -> str:
    """The address without what only those who run it may know."""
    return _SECRET.sub(lambda found: "***@" if found[0].endswith("@") else "***", store)


def unsecret(error: BaseException, store: str) -> str:
    """What an error about the address says, on one line and without what is secret in it."""
    text = " ".join(str(error).split())
    for found in _SECRET.findall(store):
        _, _, password = found.removesuffix("@").partition(":")
        for secret in (found, password or found, unquote(password)):
            text = text.replace(secret, "***") if len(secret) >= _SHORTEST else text
    return text


def database_name(store: str) -> str:
    """The database that the address names.

    Raises:
        ValueError: for an address that cannot be a store; secrets in it are not repeated.
    """
    try:
        parts = urlsplit(store)
    except ValueError:  # its text may repeat a part of the address
        raise ValueError(f"the store is no address; {_EXAMPLE} is one") from None
    name = unquote(parts.path.removeprefix("/"))
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"'{masked(store)}' names no database of letters, digits, _ and - after the hosts; "
            f"{_EXAMPLE} does"
        )
    if options_of(store).get("readpreference", "primary").lower() != "primary":
        raise ValueError(
            "readPreference: the store reads from the primary alone, as a secondary may not yet "
            "know that a consent was withdrawn; leave it out"
        )
    return name


def options_of(store: str) -> dict[str, str]:
    """The driver's options in the address, by their names in lower case."""
    return {name.lower(): value for name, value in parse_qsl(urlsplit(store).query)}
