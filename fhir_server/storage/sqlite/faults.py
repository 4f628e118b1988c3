"""What becomes of SQLite's own errors: a refusal that says that it may pass, and a line in the log.

Result codes: https://www.sqlite.org/rescode.html. What SQLite says may name files and tables, so
it is for the log of the operator and not for the client.
"""

import logging
import sqlite3
from typing import Final

from fhir_server.errors import FhirError, Kind

_log: Final = logging.getLogger(__name__)
_PRIMARY: Final = 0xFF
"""The bits of a code that are not its extension."""
_UNREAD: Final = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
)
_DAMAGE: Final = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
)


def unreadable(error: Exception) -> FhirError:
    """The refusal of a read that the file did not give."""
    _tell("read", error)
    return FhirError(Kind.UNAVAILABLE, "The store cannot be read now; try again later")


def unwritable(error: Exception) -> FhirError:
    """The refusal of a write that the file did not take."""
    _tell("written", error)
    return FhirError(Kind.UNAVAILABLE, "The store cannot write now; try again later")


def unopened(error: Exception) -> FhirError:
    """The refusal of whatever comes while the file cannot be opened."""
    _tell("opened", error)
    return FhirError(Kind.UNAVAILABLE, "The store cannot be opened now; try again later")


def is_damage(error: BaseException) -> bool:
    """Whether a file was not as it should be, or could not be read.

    Not what could not be written, as on a full disk or above a quota: reads go on then.
    """
    if not isinstance(error, sqlite3.Error) or not _coded(error):
        return False
    code = error.sqlite_errorcode
    return code in _UNREAD or code & _PRIMARY in _DAMAGE


def _tell(what: str, error: Exception) -> None:
    code = error.sqlite_errorname if isinstance(error, sqlite3.Error) and _coded(error) else ""
    _log.warning("The store cannot be %s: %s %s", what, code or type(error).__name__, error)


def _coded(error: sqlite3.Error) -> bool:
    """Whether it is SQLite's, and not of Python's module, which has no codes."""
    return hasattr(error, "sqlite_errorname")
