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


class WorkerGroupError(Exception):
    """One start of the worker group ended with failures; the run may start it again. `summary` is one line."""

    def __init__(self, summary: str, worker_failures: Mapping[int, BaseException], details: str = "") -> None:
        super().__init__(f"{summary}\n{details}" if details else summary)
        self.summary = summary
        self.worker_failures = dict(worker_failures)
