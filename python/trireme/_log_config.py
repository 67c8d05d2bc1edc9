"""Structured logging: what `init(logging_config=LoggingConfig(...))` makes of Python's logging in the driver and all workers."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any

from trireme import _state

#: What every record has of Python itself (Python's manual, "LogRecord attributes"); all else in one is context.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}
_TEXT_FORMAT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"


@dataclass
class LoggingConfig:
    """How the loggers of the driver, of tasks and of actors write; for `init`.

    Each record says where it comes from: job, node and worker, and within tasks and actors their identities and names. What is
    given as `extra` to a logger is in it too.

    Parameters
    ----------
    encoding
        ``"TEXT"``: lines that end with ``key=value`` pairs; ``"JSON"``: an object a line.
    log_level
        Of the root logger: a name, or a number of the module `logging`.
    additional_log_standard_attrs
        Attributes of `logging.LogRecord` to add (``"name"``, ``"funcName"``, ...). Time, level, message, file and line are there
        anyway; in JSON, process number and exception too.

    Errors: ValueError for an encoding, level or attribute that there is not.
    """

    encoding: str = "TEXT"
    log_level: str | int = "INFO"
    additional_log_standard_attrs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.encoding not in _FORMATTERS:
            raise ValueError(f"LoggingConfig.encoding is {self.encoding!r}; choose one of {', '.join(_FORMATTERS)}")
        logging.Handler().setLevel(self.log_level)  # its error says what is wrong with it
        for name in self.additional_log_standard_attrs:
            if name not in _STANDARD:
                raise ValueError(
                    f"LoggingConfig.additional_log_standard_attrs has {name!r}, which log records do not; they have: "
                    f"{', '.join(sorted(_STANDARD))}"
                )


class ContextFilter(logging.Filter):
    """Puts into each record where it comes from. Lets all of them pass."""

    def __init__(self) -> None:
        super().__init__()
        self._session = 0
        self._process: dict[str, Any] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in self._context().items():
            if value:
                setattr(record, name, value)
        return True

    def _context(self) -> dict[str, Any]:
        if _state.core is None:
            return {}
        from trireme.runtime_context import _context as here

        if self._session != _state.session:
            self._process = {
                "job_id": here.get_job_id(),
                "worker_id": here.get_worker_id(),
                "node_id": here.get_node_id(),
                "actor_id": _actor_id(),
                "actor_name": here.get_actor_name(),
            }
            self._session = _state.session
        if _state.worker is None:
            return self._process
        return {
            **self._process,
            "task_id": here.get_task_id(),
            "task_name": here.get_task_name(),
            "task_func_name": here.get_task_function_name(),
        }


def _actor_id() -> str | None:
    """Of the actor that this process is; None also when nobody has a handle on it any more."""
    worker = _state.worker
    handle = worker.core.actor() if worker is not None and worker.is_actor else None
    return handle.id if handle is not None else None


class _Formatter(logging.Formatter):
    def __init__(self, additional: list[str]) -> None:
        super().__init__(_TEXT_FORMAT)
        self._additional = additional

    def context(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is in a record beyond the standard, and what of that was asked for."""
        found = {name: getattr(record, name, None) for name in self._additional}
        found.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        found["timestamp_ns"] = int(record.created * 1e9)
        return found


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return f"{line} {' '.join(f'{name}={value}' for name, value in self.context(record).items())}"


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        found = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.message,
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            found["exc_text"] = record.exc_text
        return json.dumps({**found, **self.context(record)}, default=str)


_FORMATTERS = {"TEXT": _TextFormatter, "JSON": _JsonFormatter}
_handler: logging.Handler | None = None


def apply(config: LoggingConfig) -> None:
    """Has the root logger of this process write so, in place of what an earlier call said."""
    global _handler
    root = logging.getLogger()
    if _handler is not None:
        root.removeHandler(_handler)
    _handler = logging.StreamHandler()
    _handler.setLevel(config.log_level)
    _handler.setFormatter(_FORMATTERS[config.encoding](config.additional_log_standard_attrs))
    _handler.addFilter(ContextFilter())
    root.addHandler(_handler)
    root.setLevel(config.log_level)
    own = logging.getLogger("trireme")
    own.setLevel(config.log_level)
    own.handlers.clear()
    own.propagate = True
