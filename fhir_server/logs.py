"""The log: lines of text, or an object a line; never what a request or a record holds.

The text of an exception may quote what it stumbled over, a name or a password among it. So the log
has the sort of an exception and the places in the code that it went through, and not its text.
https://cheatsheetseries.owasp.org/cheatsheets/Logging_Cheat_Sheet.html#data-to-exclude
"""

import logging
import logging.config
from datetime import UTC, datetime
from traceback import extract_tb
from typing import Any, Final

import msgspec

REQUESTS: Final = "fhir_server.requests"
"""The logger of lines about single requests."""
FIELDS: Final = ("interaction", "type", "operation", "status", "ms", "request_id", "client")
"""What such a line has beside its text."""
_QUOTING: Final = "asyncio"
"""A logger whose messages have the text of exceptions in all lines but the first."""


def configuration(form: str, *, requests: bool) -> dict[str, Any]:
    """For `logging.config.dictConfig`.

    Args:
        form: text or json.
        requests: whether each request is a line.
    """
    formatter = "JsonLines" if form == "json" else "TextLines"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": f"{__name__}.{formatter}"}},
        "filters": {"addressless": {"()": f"{__name__}.Addressless"}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "lines",
                "stream": "ext://sys.stderr",
            }
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "uvicorn": {"level": "INFO"},
            "uvicorn.error": {"filters": ["addressless"]},
            REQUESTS: {"level": "INFO" if requests else "WARNING"},
        },
    }


def configure(form: str, *, requests: bool) -> None:
    """Of this process, as `configuration`."""
    logging.config.dictConfig(configuration(form, requests=requests))


class Addressless(logging.Filter):
    """Without what uvicorn says of each websocket, with its path and query, whatever is set."""

    def filter(self, record: logging.LogRecord) -> bool:
        return '"WebSocket' not in str(record.msg)


class TextLines(logging.Formatter):
    """`INFO:     text`, with the time before it."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_time(record)} {record.levelname + ':':<9} "
        trace = _trace_of(record)
        # Further lines are set in, so that no text can pass for another entry.
        return head + "\n    ".join([*_message(record).splitlines(), *trace])


class JsonLines(logging.Formatter):
    """An object with time, level, logger and message, and what belongs to requests and faults."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        told |= {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        trace = _trace_of(record)
        if trace:
            told["error"] = trace
        return msgspec.json.encode(told).decode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage().strip()
    return text.partition("\n")[0] if record.name == _QUOTING else text


def _trace_of(record: logging.LogRecord) -> list[str]:
    error = record.exc_info[1] if record.exc_info else None
    return [] if error is None else trace(error)


def trace(error: BaseException) -> list[str]:
    """Sort and places of the exception, then of what it came from; never their texts."""
    told: list[str] = []
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        told.append(f"{type(one).__module__}.{type(one).__qualname__}")
        told += [
            f"  {frame.filename}:{frame.lineno} {frame.name}"
            for frame in reversed(extract_tb(one.__traceback__))
        ]
        if isinstance(one, BaseExceptionGroup):
            waiting += reversed(one.exceptions)
        waiting.append(one.__cause__ or (None if one.__suppress_context__ else one.__context__))
    return told
