"""What goes wrong in a training run."""

from __future__ import annotations

from collections.abc import Mapping


class TrainingFailedError(RuntimeError):
    """The run failed, and no restart is left.

    Attributes
    ----------
    worker_failures
        World rank to what its worker raised or died of. Empty when the group could not be started.
    """

    def __init__(self, message: str, worker_failures: Mapping[int, BaseException] | None = None) -> None:
        super().__init__(message)
        self.worker_failures = dict(worker_failures or {})

    def __reduce__(self) -> tuple:
        return type(self), (str(self), self.worker_failures)


class WorkerGroupError(TrainingFailedError):
    """Workers died, raised or did not do the same, and no restart is left."""


class ControllerError(TrainingFailedError):
    """The run failed outside of its workers: there is no room for them. The cause is `controller_failure`."""

    def __init__(self, message: str, controller_failure: BaseException | None = None) -> None:
        super().__init__(message)
        self.controller_failure = controller_failure

    def __reduce__(self) -> tuple:
        return type(self), (str(self), self.controller_failure)


class GroupFailure(Exception):
    """One start of the worker group ended with failures; the run may start it again. `summary` is one line."""

    def __init__(self, summary: str, worker_failures: Mapping[int, BaseException], details: str = "") -> None:
        super().__init__(f"{summary}\n{details}" if details else summary)
        self.summary = summary
        self.worker_failures = dict(worker_failures)
