"""Log lines: one JSON object each, with the ids that tie them to a request and a trace, and no text of a tenant.

An exception is logged by its type and the places it passed, never by its message: messages quote what people wrote.
Lines of other libraries keep their template only, for the same reason.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

from opentelemetry import trace

from farthing_kit.context import current_context
from farthing_kit.settings import LogFormat, LogLevel
from farthing_kit.telemetry.names import LOG_FIELDS

ROOT: Final = "farthing"
_MAX_FRAMES: Final = 20
Value = str | int | float | bool | None


class Log:
    """Writes events with fields: `log.info("outbox replayed", records=3)`. Fields that names.py does not list are
    dropped, and named in `dropped`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{name}")

    def debug(self, event: str, **fields: Value) -> None:
        self._write(logging.DEBUG, event, fields, None)

    def info(self, event: str, **fields: Value) -> None:
        self._write(logging.INFO, event, fields, None)

    def warning(self, event: str, *, exception: BaseException | None = None, **fields: Value) -> None:
        self._write(logging.WARNING, event, fields, exception)

    def error(self, event: str, *, exception: BaseException | None = None, **fields: Value) -> None:
        self._write(logging.ERROR, event, fields, exception)

    def _write(self, level: int, event: str, fields: dict[str, Value], exception: BaseException | None) -> None:
        if self._logger.isEnabledFor(level):
            exc_info = (type(exception), exception, exception.__traceback__) if exception is not None else None
            self._logger.log(level, "%s", event, extra={"fields": fields}, exc_info=exc_info)


def get(name: str) -> Log:
    """The log of one part, such as "gateway" or "kit.outbox"."""
    return Log(name)


def setup(
    service: str, *, format: LogFormat = LogFormat.JSON, level: LogLevel = LogLevel.INFO, stream: TextIO | None = None
) -> None:
    """Send every line of the process to `stream` (stderr), in one form. Later calls replace earlier ones."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(service) if format is LogFormat.JSON else TextFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.value)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(line(record, self._service), ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """For terminals: time, level, service, event, fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        entry = line(record, self._service)
        time, level, service, event = (str(entry.pop(key)) for key in ("time", "level", "service", "event"))
        rest = " ".join(f"{key}={value}" for key, value in entry.items() if key not in ("logger", "span_id"))
        return f"{time[11:23]} {level:<7} {service:<10} {event} {rest}".rstrip()


def line(record: logging.LogRecord, service: str) -> dict[str, Any]:
    """The content of one log line."""
    ours = record.name == ROOT or record.name.startswith(f"{ROOT}.")
    entry: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "service": service,
        "logger": record.name,
        "event": record.getMessage() if ours else str(record.msg).partition("\n")[0][:200],
    }
    entry.update(_ids())
    entry.update(_fields(record))
    if record.exc_info and record.exc_info[0] is not None:
        entry["exception"] = record.exc_info[0].__qualname__
        entry["stack"] = _places(record.exc_info[2])
    return entry


def _ids() -> dict[str, str]:
    ids: dict[str, str] = {}
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        ids["trace_id"] = trace.format_trace_id(span.trace_id)
        ids["span_id"] = trace.format_span_id(span.span_id)
    context = current_context()
    if context is not None:
        ids["request_id"] = context.request_id
    return ids


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    kept = {key: value for key, value in fields.items() if key in LOG_FIELDS}
    if len(kept) < len(fields):
        kept["dropped"] = sorted(fields.keys() - kept.keys())
    return kept


def _places(tb: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(tb)[-_MAX_FRAMES:]
    return [f"{frame.filename.rsplit('/site-packages/')[-1]}:{frame.lineno} {frame.name}" for frame in frames]
