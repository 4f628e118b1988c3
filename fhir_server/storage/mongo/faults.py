"""What faults of MongoDB mean: to be tried again, or which refusal."""

import logging
from typing import Final

from pymongo.errors import (
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from fhir_server.errors import FhirError, Kind

_log: Final = logging.getLogger(__name__)
_TIME_IS_UP: Final = frozenset({50, 262})
"""MaxTimeMSExpired and ExceededTimeLimit:
https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml"""
_NOT_LET_IN: Final = frozenset({13, 18, 8000})
"""Unauthorized, AuthenticationFailed, and what Atlas says for both."""
_PASSING_LABELS: Final = (
    "TransientTransactionError",
    "UnknownTransactionCommitResult",
    "RetryableWriteError",
)
_PASSING: Final = frozenset(
    {6, 7, 24, 43, 46, 63, 64, 89, 91, 112, 133, 134, 189, 202, 225, 237, 239, 246, 251}
    | {290, 317, 358, 384, 9001, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031}
)
"""The network, a lock, a new primary, a snapshot or cursor that is gone, a server that stops, a
full disk."""


def passing(error: BaseException) -> bool:
    """Whether the whole transaction may be run again."""
    return isinstance(error, PyMongoError) and error.has_error_label("TransientTransactionError")


def out_of_time(error: BaseException) -> bool:
    return isinstance(error, ExecutionTimeout) or getattr(error, "code", None) in _TIME_IS_UP


def refused(error: BaseException, what: str) -> FhirError:
    """The log has what the network says; what MongoDB says may quote what is stored.

    UNAVAILABLE for what passes, INTERNAL for what MongoDB will say again.
    """
    text = error if isinstance(error, ConnectionFailure) else _name(error)
    _log.warning("MongoDB: %s: %s", type(error).__name__, text)
    if _lasting(error):
        name = _name(error)
        return FhirError(Kind.INTERNAL, f"The store cannot {what}: MongoDB refuses it ({name})")
    return FhirError(Kind.UNAVAILABLE, f"The store cannot {what} now; try again later")


def _lasting(error: BaseException) -> bool:
    """Whether the server itself said no, and not for reasons that pass by themselves."""
    if not isinstance(error, OperationFailure) or isinstance(error, WriteConcernError):
        return False
    labelled = any(error.has_error_label(label) for label in _PASSING_LABELS)
    return not labelled and error.code not in _PASSING


def _name(error: BaseException) -> str:
    details = getattr(error, "details", None) or {}
    code = getattr(error, "code", None)
    return str(details.get("codeName") or f"code {code}")


def why_not(error: PyMongoError) -> str | None:
    """What whoever starts a server can do about it; None where waiting may help."""
    if "SSL handshake failed" in str(error) or "certificate verify failed" in str(error):
        return (
            "the TLS connection to MongoDB fails: is it a server with TLS, and are tlsCAFile and "
            "tlsCertificateKeyFile those that it goes with?"
        )
    if isinstance(error, OperationFailure) and error.code in _NOT_LET_IN:
        return (
            f"MongoDB does not let the user of the address do this ({_name(error)}): user, "
            "password, authSource and the rights of readWrite on the database are what it takes"
        )
    return None


def unknown_outcome(error: BaseException) -> bool:
    """Whether a commit may have been made although it was not answered."""
    return isinstance(error, PyMongoError) and error.has_error_label(
        "UnknownTransactionCommitResult"
    )
