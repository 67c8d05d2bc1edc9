"""What `get` raises, with Ray's names.

Everything derives from `RayError`. An exception that user code raised arrives as a `RayTaskError` that is also an
instance of the original class, so both `except RayTaskError` and `except ValueError` catch it.
"""

from __future__ import annotations

__all__ = [
    "ActorAlreadyExistsError",
    "ActorDiedError",
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "ActorUnschedulableError",
    "AsyncioActorExit",
    "CrossLanguageError",
    "GetTimeoutError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectReconstructionFailedLineageEvictedError",
    "ObjectReconstructionFailedMaxAttemptsExceededError",
    "ObjectRefStreamEndOfStreamError",
    "ObjectStoreFullError",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "RayActorError",
    "RayError",
    "RaySystemError",
    "RayTaskError",
    "ReferenceCountingAssertionError",
    "RuntimeEnvSetupError",
    "TaskCancelledError",
    "TaskPlacementGroupRemoved",
    "TaskUnschedulableError",
    "UnserializableException",
    "WorkerCrashedError",
]


class RayError(Exception):
    """Base of all errors of the runtime."""


class RaySystemError(RayError):
    """The runtime refused or failed at something; the message says what."""

    def __init__(self, client_exc: object = "", traceback_str: str | None = None) -> None:
        super().__init__(client_exc)
        self.client_exc = client_exc
        self.traceback_str = traceback_str


class CrossLanguageError(RayError):
    """A task or actor of another language failed."""


class UnserializableException(RayError):
    """Stands for an exception that could not be sent; holds its text."""


class TaskCancelledError(RayError):
    """The task was cancelled before it ended."""

    def __init__(self, task_id: object = None, error_message: str | None = None) -> None:
        self.task_id = task_id
        super().__init__(error_message or (f"Task {task_id} was cancelled" if task_id else "the task was cancelled"))


class RayTaskError(RayError):
    """User code raised.

    Attributes
    ----------
    cause : BaseException | None
        The exception as it was raised, without its traceback; None when it could not be sent.
    traceback_str : str
        The traceback in the worker, as text.
    function_name, pid, rank, host
        Where it happened.
    """

    def __init__(
        self,
        function_name: str = "",
        traceback_str: str = "",
        cause: BaseException | None = None,
        pid: int = 0,
        rank: int = -1,
        host: str = "",
    ) -> None:
        # Not by super(): of an error that is its cause's class too, that would be the cause's constructor.
        self.args = (function_name, traceback_str, cause, pid, rank, host)
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self.pid = pid
        self.rank = rank
        self.host = host

    def __str__(self) -> str:
        where = f"{self.function_name} failed on rank {self.rank} (pid={self.pid}, host={self.host})"
        return f"{where}\n{self.traceback_str.rstrip()}"

    def __reduce__(self):
        return _rebuild, (
            self.function_name,
            self.traceback_str,
            self.cause,
            self.pid,
            self.rank,
            self.host,
        )

    def as_instanceof_cause(self) -> RayTaskError:
        """This error as one that is also an instance of its cause's class."""
        cause = self.cause
        if cause is None or isinstance(cause, RayError) or not isinstance(cause, Exception):
            return self
        cls = _dual_class(type(cause))
        if cls is None:
            return self
        error = cls.__new__(cls)
        RayTaskError.__init__(
            error, self.function_name, self.traceback_str, cause, self.pid, self.rank, self.host
        )
        # What the class's own methods read (errno, response, ...) comes with the cause.
        for name, value in getattr(cause, "__dict__", {}).items():
            error.__dict__.setdefault(name, value)
        error.args = cause.args
        return error


_dual_classes: dict[type, type | None] = {}


def _dual_class(cause: type) -> type | None:
    if cause not in _dual_classes:

        def from_cause(self, name):
            if name == "cause" or name.startswith("__"):
                raise AttributeError(name)
            return getattr(self.cause, name)

        try:
            dual = type(
                f"RayTaskError({cause.__name__})",
                (RayTaskError, cause),
                {"__module__": __name__, "__getattr__": from_cause, "__str__": RayTaskError.__str__},
            )
            dual.__new__(dual)
            # Slots of C types are filled in the cause only.
            for name in ("errno", "strerror", "filename", "value", "name", "path"):
                if name not in vars(dual) and hasattr(cause, name):
                    setattr(dual, name, property(lambda self, n=name: getattr(self.cause, n)))
        except TypeError:
            dual = None  # a class that cannot be combined; the error stays a RayTaskError with a cause
        _dual_classes[cause] = dual
    return _dual_classes[cause]


def _rebuild(*fields: object) -> RayTaskError:
    return RayTaskError(*fields).as_instanceof_cause()  # type: ignore[arg-type]


class WorkerCrashedError(RayError):
    """The process that ran the task ended before the task did, and no retry was left."""


class NodeDiedError(RayError):
    """The rank that was needed is dead."""


class LocalRayletDiedError(RayError):
    """The rank of this process is gone."""


class RayActorError(RayError):
    """An actor cannot do what was asked.

    Attributes
    ----------
    actor_id : str | None
        Which, in hexadecimal.
    """

    def __init__(self, cause: object = None, *, actor_id: str | None = None) -> None:
        super().__init__("the actor died" if cause is None else cause)
        self.actor_id = actor_id

    @property
    def error_msg(self) -> str:
        return str(self)


class ActorDiedError(RayActorError):
    """The actor ended: its constructor raised, its process died and no restart was left, or it was killed."""


class ActorAlreadyExistsError(ValueError, RayError):
    """The name of a new actor is taken."""


class ActorUnavailableError(RayActorError):
    """The actor cannot be reached now; it may come back. The call may have run or not."""


class GetTimeoutError(RayError, TimeoutError):
    """`get` ran out of time."""


class PendingCallsLimitExceeded(RayError):
    """More than `max_pending_calls` calls of this handle are under way."""


class RuntimeEnvSetupError(RayError):
    """A runtime environment could not be made."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(error_message)
        self.error_message = error_message


class TaskUnschedulableError(RayError):
    """The task can never run in this job."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(error_message)
        self.error_message = error_message


class ActorUnschedulableError(RayError):
    """The actor can never be placed in this job."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(error_message)
        self.error_message = error_message


class _Unschedulable(TaskUnschedulableError, ActorUnschedulableError):
    """What a call of an actor that was never placed fails with is the same to the runtime as a task's own error."""

    def __init__(self, error_message: str = "") -> None:
        TaskUnschedulableError.__init__(self, error_message)

    def __reduce__(self) -> tuple:
        return _unschedulable, (self.error_message,)  # by its name it would be found to be another class


def _unschedulable(error_message: str) -> _Unschedulable:
    return _Unschedulable(error_message)


_Unschedulable.__name__ = _Unschedulable.__qualname__ = "TaskUnschedulableError"


class TaskPlacementGroupRemoved(RayError):
    """The task's placement group was removed."""


class ActorPlacementGroupRemoved(RayError):
    """The actor's placement group was removed."""


class ObjectStoreFullError(RayError):
    """The arena is full and nothing can be moved out of it."""


class OutOfMemoryError(RayError):
    """A process was ended because memory ran out."""


class OutOfDiskError(RayError):
    """There is no room to spill objects to."""


class ObjectLostError(RayError):
    """No copy of the object is left.

    Attributes
    ----------
    object_ref_hex : str
        Which, in hexadecimal.
    """

    def __init__(self, object_ref_hex: str = "", message: str = "") -> None:
        super().__init__(message or f"object {object_ref_hex} is lost")
        self.object_ref_hex = object_ref_hex


class OwnerDiedError(ObjectLostError):
    """The rank that owned the object is dead."""


class ObjectFreedError(ObjectLostError):
    """The object was given up."""


class ObjectFetchTimedOutError(ObjectLostError):
    """The object could not be fetched in time."""


class ObjectReconstructionFailedError(ObjectLostError):
    """The object was lost and could not be computed again."""


class ObjectReconstructionFailedMaxAttemptsExceededError(ObjectReconstructionFailedError):
    """The object was lost and its task has no retry left."""


class ObjectReconstructionFailedLineageEvictedError(ObjectReconstructionFailedError):
    """The object was lost and how it was made is no longer known."""


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was given up while it was still referred to."""


class ObjectRefStreamEndOfStreamError(RayError):
    """A streaming generator has no further item."""


class AsyncioActorExit(RayError):
    """Raised inside an async actor to end it."""
