"""Between exceptions of user code, their bytes, and the runtime's error codes."""

from __future__ import annotations

import os
import pickle
import traceback
from typing import Any

from trireme import exceptions

# In the worker.


def describe(error: BaseException, what: str, rank: int, creation: bool = False) -> tuple[str, str, bytes]:
    """An exception of user code as (text, type name, bytes for error_of()). `creation`: an actor's constructor raised it."""
    cause: BaseException | None = error
    text = _traceback(error)
    if isinstance(error, exceptions.RayTaskError):
        # What failed is the inner task; the traceback shows the way to it.
        text = f"{text.rstrip()}\n\nwhich failed because of:\n\n{error}"
        cause = error.cause
    kind = type(cause) if cause is not None else type(error)
    name = kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    fields = (what, text, os.getpid(), rank, os.uname().nodename, creation)
    return f"{type(error).__name__}: {_text(error)}", name, _pack(cause, fields)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - exceptions of users break in any way
        return f"<its __str__ failed: {broken!r}>"


def _traceback(error: BaseException) -> str:
    frames = error.__traceback__
    # The runtime's own frames come first; users need not see them.
    own = ("trireme._worker", "trireme._local")
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(own):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def _pack(cause: BaseException | None, fields: tuple) -> bytes:
    from trireme._pickler import dump

    if isinstance(cause, (exceptions.RayError, Exception)):
        chain = (cause.__traceback__, cause.__context__, cause.__cause__)
        cause.__traceback__ = cause.__context__ = cause.__cause__ = None
        for candidate in (cause, _Parts(cause)):
            try:
                data, _, refs = dump((candidate, *fields))
                if refs:
                    continue
                pickle.loads(data)
                return data
            except Exception:  # noqa: BLE001, S112 - the next form may do
                continue
            finally:
                cause.__traceback__, cause.__context__, cause.__cause__ = chain
    return pickle.dumps((None, *fields), 5)


class _Parts:
    """An exception whose own pickling is broken: class, arguments and attributes."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self):
        return _from_parts, (type(self.error), self.error.args, self.error.__dict__)


def _from_parts(cls: type, args: tuple, fields: dict) -> BaseException:
    error = cls.__new__(cls, *args) if cls.__new__ is not BaseException.__new__ else cls.__new__(cls)
    error.args = args
    error.__dict__.update(fields)
    return error


# In the process that gets it.


def error_of(error: Any, ref: Any = None) -> Exception:
    """The exception for a native Error."""
    where = f" [rank {error.rank}, host {error.host}]" if error.rank >= 0 else ""
    task = f"{error.task}: " if error.task and error.task not in error.message else ""
    text = f"{task}{error.message}{where}"
    object_id = ref.hex() if ref is not None else ""
    if error.payload and error.code in ("task_failed", "actor_died"):
        return _load(error, text)
    made = _BY_TYPE.get(error.type)
    if made is not None:
        return made(text)
    code = error.code
    if code == "task_failed":
        return exceptions.RayTaskError(error.task, f"{error.type}: {error.message}", None, 0, error.rank, error.host)
    if code in ("object_lost", "owner_died"):
        cls = exceptions.OwnerDiedError if code == "owner_died" else exceptions.ObjectLostError
        return cls(object_id, text)
    return _BY_CODE.get(code, exceptions.RaySystemError)(text)


def _load(error: Any, text: str) -> Exception:
    try:
        cause, what, trace, pid, rank, host, creation = pickle.loads(error.payload)
    except Exception as broken:  # noqa: BLE001 - exceptions of users break in any way
        note = f"{text}\n(the exception cannot be read here: {type(broken).__name__}: {broken})"
        return exceptions.RayTaskError(error.task, note, None, 0, error.rank, error.host)
    made = exceptions.RayTaskError(what, trace, cause, pid, rank, host)
    if creation:
        died = exceptions.ActorDiedError(f"the actor {what} was never made, its constructor failed: {made}")
        died.__cause__ = made.as_instanceof_cause()
        return died
    if isinstance(cause, exceptions.RayError) and not isinstance(cause, exceptions.RayTaskError):
        # The task passed on what the runtime told it, e.g. that an actor died.
        made.__cause__ = cause
        return _passed_on(made, cause)
    return made.as_instanceof_cause()


def _passed_on(made: exceptions.RayTaskError, cause: exceptions.RayError) -> Exception:
    dual = exceptions._dual_class(type(cause))
    if dual is None:
        return made
    both = dual.__new__(dual)
    exceptions.RayTaskError.__init__(
        both, made.function_name, made.traceback_str, cause, made.pid, made.rank, made.host
    )
    return both


def _cancelled(text: str) -> exceptions.TaskCancelledError:
    return exceptions.TaskCancelledError(error_message=text)


_BY_CODE: dict[str, Any] = {
    "actor_died": exceptions.ActorDiedError,
    "worker_lost": exceptions.WorkerCrashedError,
    "peer_lost": exceptions.NodeDiedError,
    "cancelled": _cancelled,
    "unschedulable": exceptions._Unschedulable,
    "out_of_memory": exceptions.ObjectStoreFullError,
    "unavailable": exceptions.ActorUnavailableError,
}

#: Failures that a worker reports by the name of the error.
_BY_TYPE: dict[str, Any] = {
    "TaskCancelledError": _cancelled,
    "ActorDiedError": exceptions.ActorDiedError,
    "RuntimeEnvSetupError": exceptions.RuntimeEnvSetupError,
    "ActorUnschedulableError": exceptions.ActorUnschedulableError,
    "TaskPlacementGroupRemoved": exceptions.TaskPlacementGroupRemoved,
}

