"""What checks resources and codes, by the settings: part of the composition root."""

from functools import cache, lru_cache
from typing import Literal

from fhir_server.fhir.filed import Filed
from fhir_server.outgoing import Outgoing
from fhir_server.settings import Settings
from fhir_server.terminology.known import KnownCodes
from fhir_server.terminology.library import Library as TerminologyLibrary
from fhir_server.terminology.library import Nowhere
from fhir_server.terminology.outside import Outside
from fhir_server.terminology.packaged import Packaged
from fhir_server.terminology.service import Terminology
from fhir_server.validation.checker import Checker, Policy
from fhir_server.validation.profiles.claims import (
    DEFAULT,
    Requirement,
    read_requirement,
    require_known,
)
from fhir_server.validation.profiles.library import Library
from fhir_server.validation.profiles.packages import definitions, resources_of


def checker(settings: Settings) -> Checker:
    """What checks resources: R4, the profiles that are shipped and those of the packages.

    Raises:
        ValueError: for a package that cannot be read, or a required profile that is not known.
    """
    return _checker(
        settings.packages,
        settings.required_profiles,
        settings.lenient_profiles,
        settings.unknown_profiles,
        settings.keyworking_profiles,
    )


@lru_cache(maxsize=4)
def _checker(
    packages: tuple[str, ...],
    required_profiles: tuple[str, ...],
    lenient: tuple[str, ...],
    unknown: Literal["warn", "refuse"],
    keyworking: bool,
) -> Checker:
    """One for all applications of a process: what it has compiled, it keeps."""
    requirements: dict[str, list[Requirement]] = {}
    for text in required_profiles:
        type_name, requirement = read_requirement(text)
        requirements.setdefault(type_name, []).append(requirement)
    library = Library(definitions(_resources(packages)))
    require_known(library, requirements)
    if keyworking:
        for type_name, own in DEFAULT.items():
            requirements.setdefault(type_name, []).extend(own)
    return Checker(library, KnownCodes(packaged(packages)), Policy(requirements, lenient, unknown))


def terminology(settings: Settings) -> Terminology:
    """The terminology service of somebody without a store."""
    outside = terminology_server(settings)
    library = TerminologyLibrary(Nowhere(), packaged(settings.packages))
    return Terminology(library, settings.max_codes, outside)


@cache
def _resources(packages: tuple[str, ...]) -> tuple[Filed, ...]:
    """What is in the packages, read once: a process that is started anew sees new ones."""
    return tuple(resources_of(packages))


@cache
def packaged(packages: tuple[str, ...]) -> Packaged:
    """The terminology in the packages."""
    return Packaged(_resources(packages))


def terminology_server(settings: Settings) -> Outside | None:
    """The server elsewhere that is asked for codes; None where the settings name none."""
    return _terminology_server(
        settings.terminology_server,
        settings.terminology_patience,
        settings.outgoing_private_hosts,
    )


@cache
def _terminology_server(
    base: str, patience: float, private_hosts: tuple[str, ...]
) -> Outside | None:
    """The terminology server of the settings, with what it answered before."""
    return Outside(base, patience, Outgoing([base], private_hosts)) if base else None
