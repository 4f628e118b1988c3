"""Settings that are secret: they may come from a file, and nothing prints them.

A setting is secret when its field says `repr=False`. `KEYWORKING_STORE_FILE`, say, names a file
whose content is the value of `store`, as containers are given secrets.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

SUFFIX: Final = "_FILE"
_MOST: Final = 64 * 1024
"""Characters of a secret."""


def secrets(model: type[BaseModel]) -> Iterable[str]:
    """The names of the settings that are secret, but for one that has a setting for its file."""
    fields = model.model_fields
    return (
        name for name, field in fields.items() if not field.repr and f"{name}_file" not in fields
    )


def files(model: type[BaseModel], prefix: str) -> Mapping[str, str]:
    """Of secrets that the environment gives as files: the path by the setting's name.

    Raises:
        ValueError: for one that is given itself, too.
    """
    given = {name.upper(): value for name, value in os.environ.items()}
    found: dict[str, str] = {}
    for name in secrets(model):
        variable = f"{prefix}{name}".upper()
        path = given.get(variable + SUFFIX)
        if path is None:
            continue
        if variable in given:
            raise ValueError(f"{variable} and {variable}{SUFFIX} are both there; give one of them")
        found[name] = path
    return found


def read(variable: str, path: str) -> str:
    """The secret in a file, without the line break at its end.

    Raises:
        ValueError: for a file that cannot be read, is empty or is no text.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_MOST + 1).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise ValueError(f"{variable}: {path} cannot be read: {why}") from None
    if not 0 < len(text) <= _MOST or "\n" in text:
        raise ValueError(f"{variable}: {path} does not hold one line with the secret")
    return text


class SecretFiles(PydanticBaseSettingsSource):
    """What the files hold."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not asked: `__call__` gives all of them."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        prefix = str(self.config.get("env_prefix", ""))
        found = files(self.settings_cls, prefix)
        return {name: read(f"{prefix}{name}{SUFFIX}".upper(), path) for name, path in found.items()}
