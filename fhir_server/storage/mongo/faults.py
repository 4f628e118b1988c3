"""What faults of MongoDB mean: to be tried again, or which refusal."""

import logging
from typing import Final

from pymongo.errors import ExecutionTimeout, PyMongoError

from fhir_server.errors import FhirError, Kind

_log: Final = logging.getLogger(__name__)
_TIME_IS_UP: Final = frozenset({50, 262})
"""MaxTimeMSExpired and ExceededTimeLimit:
https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml"""


def passing(error: BaseException) -> bool:
    """Whether the whole transaction may be run again."""
    return isinstance(error, PyMongoError) and error.has_error_label("TransientTransactionError")


def out_of_time(error: BaseException) -> bool:
    return isinstance(error, ExecutionTimeout) or getattr(error, "code", None) in _TIME_IS_UP


def too_costly(patience: float) -> FhirError:
    return FhirError(
        Kind.TOO_COSTLY,
        f"The search took longer than {patience:g} s; narrow it, for example to one patient",
    )


def unavailable(error: BaseException, what: str) -> FhirError:
    """The fault's own text is for the log: it names machines."""
    _log.warning("MongoDB: %s: %s", type(error).__name__, error)
    return FhirError(Kind.UNAVAILABLE, f"The store cannot {what} now; try again later")


def unknown_outcome(error: BaseException) -> bool:
    """Whether a commit may have been made although it was not answered."""
    return isinstance(error, PyMongoError) and error.has_error_label(
        "UnknownTransactionCommitResult"
    )
