"""Files fetched from elsewhere, from origins that the settings name and from nowhere else."""

from collections.abc import AsyncIterator
from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.outgoing import Outgoing, Question, TooLarge, Unreachable

_MOST_SECONDS: Final = 900.0
"""For one file."""
_HEADERS: Final = {"accept": "application/fhir+ndjson"}


async def fetched(url: str, most: int, files: Outgoing) -> AsyncIterator[bytes]:
    """The file, piece by piece.

    Raises:
        FhirError: UNSUPPORTED when it cannot be had; TOO_LARGE; INVALID and FORBIDDEN where the
            settings do not allow it any more.
    """
    question = Question("GET", url, _HEADERS, seconds=_MOST_SECONDS, gzip=True)
    try:
        async with files.asking(question) as reply:
            if reply.status != 200:
                raise _refused(url, f"it answers {reply.status}")
            async for piece in reply.pieces(most):
                yield piece
    except TooLarge as error:
        raise FhirError(Kind.TOO_LARGE, f"'{url}' cannot be fetched: {error}") from None
    except Unreachable as error:
        raise _refused(url, str(error)) from None


def _refused(url: str, why: str) -> FhirError:
    return FhirError(Kind.UNSUPPORTED, f"'{url}' cannot be fetched: {why}")
