"""Settings of who may see whose record."""

import re
from typing import Annotated, Any, Final, Self, get_args

from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from fhir_server.access.case import Kind, Terms

_ODS: Final = re.compile(r"[A-Za-z0-9]{1,20}", re.ASCII)
_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class ConsentSettings(BaseModel):
    """See docs/access.md."""

    break_glass_minutes: Annotated[int, Field(ge=1, le=720)] = 60
    """For which a record can be read without consent, once a professional has given a reason."""
    register_signatories: Annotated[tuple[str, ...], NoDecode] = ()
    """Organisations that have signed the register's sharing agreement, separated by commas, each
    as ODS=kind."""
    inpatient_units: Annotated[tuple[str, ...], NoDecode] = ()
    """ODS codes of the inpatient units, separated by commas: to them, a stay opens the record.
    Empty: no stay opens a record, and any organisation whose token may create an Encounter tells
    of stays; else these alone do."""

    @field_validator("register_signatories", "inpatient_units", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @model_validator(mode="after")
    def _check_organisations(self) -> Self:
        for one in self.register_signatories:
            code, _, kind = one.partition("=")
            if not _ODS.fullmatch(code) or kind not in _KINDS:
                raise ValueError(
                    f"register_signatories: '{one}' is not ODS=kind, with one of "
                    f"{', '.join(_KINDS)}"
                )
        for one in self.inpatient_units:
            if not _ODS.fullmatch(one):
                raise ValueError(f"inpatient_units: '{one}' is no ODS code")
        return self


def terms_of(settings: ConsentSettings) -> Terms:
    """What the decision table takes from the settings."""
    told = (one.partition("=") for one in settings.register_signatories)
    kinds = {code.upper(): kind for code, _, kind in told}
    return Terms(
        {code: known for code, kind in kinds.items() for known in _KINDS if known == kind},
        frozenset(code.upper() for code in settings.inpatient_units),
    )
