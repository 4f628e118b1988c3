"""Media types: what the client sends and what it takes.

https://hl7.org/fhir/R4/http.html#mime-type
"""

import re
from collections.abc import Mapping
from typing import Final

from fhir_server.errors import FhirError, Kind

JSON: Final = "application/fhir+json"
_JSON_NAMES: Final = frozenset({"json", JSON, "application/json", "text/json"})
_RANGES: Final = frozenset({"*/*", "application/*", "text/*"})
_QUALITY: Final = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


def require_json_wanted(headers: Mapping[str, str], format_parameter: str | None) -> None:
    """Raise unless the client takes JSON; `_format` goes before `Accept`.

    Raises:
        FhirError: NOT_ACCEPTABLE.
    """
    if format_parameter is not None:
        # The + of application/fhir+json arrives as a space where it was not encoded.
        wanted = format_parameter.replace(" ", "+").partition(";")[0].lower()
        if wanted not in _JSON_NAMES:
            raise _not_acceptable(f"_format={format_parameter}")
        return
    accept = headers.get("accept")
    if accept and not any(_accepts_json(part) for part in accept.split(",")):
        raise _not_acceptable(f"Accept: {accept}")


def require_json_sent(headers: Mapping[str, str]) -> None:
    """Raise unless the body is declared as JSON in UTF-8.

    Raises:
        FhirError: UNSUPPORTED_MEDIA_TYPE.
    """
    declared = headers.get("content-type", "")
    name, _, parameters = declared.partition(";")
    charset = parameters.replace('"', "").strip().lower()
    if name.strip().lower() not in _JSON_NAMES or (
        "charset=" in charset and "charset=utf-8" not in charset
    ):
        raise FhirError.at(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            "http.Content-Type",
            f"The body is {declared or 'of no declared type'}; {JSON} in UTF-8 is expected",
        )
    if headers.get("content-encoding", "identity") != "identity":
        raise FhirError.at(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            "http.Content-Encoding",
            "Compressed bodies are not supported yet; send it without Content-Encoding",
        )


def _accepts_json(part: str) -> bool:
    name, *parameters = (item.strip().lower() for item in part.split(";"))
    if name not in _JSON_NAMES and name not in _RANGES:
        return False
    for parameter in parameters:
        if parameter.startswith("q=") and not (
            (found := _QUALITY.fullmatch(parameter)) and float(found[1]) > 0
        ):
            return False
    return True


def _not_acceptable(asked: str) -> FhirError:
    return FhirError(Kind.NOT_ACCEPTABLE, f"'{asked}' cannot be answered; {JSON} is what there is")
