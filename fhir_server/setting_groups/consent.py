"""Settings of who may see whose record."""

from typing import Annotated

from pydantic import BaseModel, Field


class ConsentSettings(BaseModel):
    """See docs/access.md."""

    break_glass_minutes: Annotated[int, Field(ge=1, le=720)] = 60
    """For which a record can be read without consent, once a professional has given a reason."""
