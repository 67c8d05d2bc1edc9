"""Inside a worker: what the training function asks of the run, and what it tells it."""

from __future__ import annotations

import enum
import os
import queue
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn

from trireme.train._checkpoint import Checkpoint
from trireme.train._storage import CHECKPOINT_PREFIX, persist

# So many reports may wait for their checkpoints' uploads in the background before report() waits too.
UPLOADS_PENDING_MAX = 2


class CheckpointUploadMode(enum.Enum):
    """How `report` gets a checkpoint's files into the run's folder."""

    SYNC = "sync"  #: copied before report returns
    ASYNC = "async"  #: copied in the background, in order; the local folder is deleted afterwards
    NO_UPLOAD = "no_upload"  #: they lie where they shall stay


@dataclass(frozen=True)
class Place:
    """A worker's ranks: in the group, on its node, and its node's among the group's nodes."""

    world_rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    node_rank: int


@dataclass(frozen=True)
class RunInfo:
    """What all workers of a run share. Plain data, sent to them."""

    experiment_name: str
    trial_name: str
    trial_id: str
    trial_dir: str
    storage_path: str
    resources: dict[str, float]
    metadata: dict[str, Any] = field(default_factory=dict)


class TrainContext:
    """Who this worker is. From `get_context`; any thread of the worker."""

    def __init__(self, place: Place, run: RunInfo) -> None:
        self._place = place
        self._run = run

    def get_world_size(self) -> int:
        """Number of workers of the group."""
        return self._place.world_size

    def get_world_rank(self) -> int:
        """This worker's number, 0 to world size - 1."""
        return self._place.world_rank

    def get_local_rank(self) -> int:
        """This worker's number among those on its node."""
        return self._place.local_rank

    def get_local_world_size(self) -> int:
        """How many workers of the group are on this node."""
        return self._place.local_world_size

    def get_node_rank(self) -> int:
        """The number of this node among those of the group."""
        return self._place.node_rank

    def get_experiment_name(self) -> str:
        """Name of the run, or of the Tune experiment that it is a trial of."""
        return self._run.experiment_name

    def get_trial_name(self) -> str:
        """Name of the Tune trial; of the run without Tune."""
        return self._run.trial_name

    def get_trial_id(self) -> str:
        """Id of the Tune trial; the name of the run without Tune."""
        return self._run.trial_id

    def get_trial_dir(self) -> str:
        """The run's folder, which every worker reaches."""
        return self._run.trial_dir

    def get_trial_resources(self) -> dict[str, float]:
        """What each worker reserved."""
        return dict(self._run.resources)

    def get_storage(self) -> str:
        """`RunConfig.storage_path`."""
        return self._run.storage_path

    def get_metadata(self) -> dict[str, Any]:
        """What the trainer was given as `metadata`."""
        return dict(self._run.metadata)

    def __repr__(self) -> str:
        place = self._place
        return f"TrainContext(run={self._run.trial_name!r}, rank {place.world_rank} of {place.world_size})"


@dataclass
class Report:
    """One `report` of one worker. `folder`: of the checkpoint, None without; a path when it was not uploaded."""

    index: int
    metrics: dict[str, Any]
    folder: str | None

    def __str__(self) -> str:
        return f"made report number {self.index}"


@dataclass
class Meeting:
    """One call of a function of `trireme.train.collective` by one worker. `data`: what rank 0 has for the others."""

    function: str
    data: Any = None

    def __str__(self) -> str:
        return f"called {self.function}()"


class Question:
    """A worker asks which checkpoints the run has; the others need not."""

    def __str__(self) -> str:
        return "called get_all_reported_checkpoints()"


class StopTraining(SystemExit):
    """Raised in a training function, out of `report` and the functions of `trireme.train.collective`, when its group
    ends: `finally` blocks run, and ``except Exception`` does not hold it up."""


class _HandedOver:
    """An event on its way to the controller: done once it asks for the next one, or never, when the group ends."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self.answer: Any = None

    def finish(self, answer: Any = None) -> None:
        self.answer = answer
        self._done.set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._done.wait(timeout)


class Session:
    """The training function's link to the process that controls the run.

    A report is done once the controller has it: it asks for the next one. So a death after report() loses nothing.

    Threading: report(), meet(), finish() and end() from the training thread; next() and stop() from the actor's.
    """

    def __init__(
        self, place: Place, run: RunInfo, checkpoint: Checkpoint | None, shards: Mapping[str, Any], first_report: int
    ) -> None:
        self.context = TrainContext(place, run)
        self.place = place
        self.run = run
        self.checkpoint = checkpoint
        self.shards = shards
        self.state: dict[str, Any] = {}  # of the backends: the process group's name, the device, ...
        self._next_index = first_report
        self._events: queue.SimpleQueue[tuple[Any, _HandedOver]] = queue.SimpleQueue()
        self._handed_out: _HandedOver | None = None
        self._lock = threading.Lock()
        self._stopping = False
        self._unanswered: set[_HandedOver] = set()
        self._folders: set[str] = set()
        self._uploads: ThreadPoolExecutor | None = None
        self._pending = threading.BoundedSemaphore(UPLOADS_PENDING_MAX)
        self._failed: BaseException | None = None

    def report(
        self,
        metrics: Mapping[str, Any],
        checkpoint: Checkpoint | None,
        folder: str | None,
        mode: CheckpointUploadMode,
        delete: bool | None,
        upload: Callable[[Checkpoint, str], Checkpoint] | None,
    ) -> None:
        """See `trireme.train.report`."""
        if delete is None:
            delete = mode is CheckpointUploadMode.ASYNC
        if self._stopping:
            self._give_up(checkpoint, mode, delete)
        self._raise_upload_error()
        index, self._next_index = self._next_index, self._next_index + 1
        folder = self._folder_name(folder, index)

        def send() -> None:
            if self._stopping:
                self._give_up(checkpoint, mode, delete)
            where = self._store(checkpoint, folder, mode, delete, upload) if checkpoint is not None else None
            self._hand_over(Report(index, dict(metrics), where))

        if self._uploads is None and mode is not CheckpointUploadMode.ASYNC:
            send()
            return
        # Once an upload runs in the background, later reports queue behind it, so that their order stays.
        if self._uploads is None:
            self._uploads = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-upload")
        self._pending.acquire()
        done = self._uploads.submit(self._guarded, send)
        if mode is not CheckpointUploadMode.ASYNC:
            done.result()
            self._raise_upload_error()

    def meet(self, function: str, data: Any = None) -> Any:
        """Waits until all workers have called it as often as this one; returns rank 0's `data`.

        What this worker reported before, also in the background, has arrived then: the order is the same on all workers.
        """
        self._finish_uploads()
        return self._hand_over(Meeting(function, data))

    def reported_checkpoints(self, timeout: float | None) -> list[tuple[str, dict[str, Any]]]:
        """Folder and metrics of the checkpoints that the run has, once all workers have made what this one reported."""
        self._finish_uploads()
        return self._hand_over(Question(), timeout)

    def stop(self) -> None:
        """The group ends: the training function gets `StopTraining` from where it waits in this object or comes to it."""
        with self._lock:
            self._stopping = True
            unanswered = list(self._unanswered)
        for handed in unanswered:
            handed.finish()

    def finish(self) -> None:
        """Waits for the uploads in the background. Raises what one of them raised."""
        self.end_uploads()
        self._raise_upload_error()

    def end_uploads(self) -> None:
        """Returns when nothing is under way in the background any more."""
        if self._uploads is not None:
            self._uploads.shutdown(wait=True)

    def end(self, event: Any) -> None:
        """One of the last events: after them, nothing is reported."""
        self._events.put((event, _HandedOver()))

    def next(self, answer: Any = None) -> Any:
        """The next event, in order; waits for it. That it is called says that the one before has arrived; `answer` is
        for the one before."""
        if self._handed_out is not None:
            self._handed_out.finish(answer)
        event, self._handed_out = self._events.get()
        return event

    def _finish_uploads(self) -> None:
        if self._uploads is not None:
            self._uploads.submit(lambda: None).result()
            self._raise_upload_error()

    def _hand_over(self, event: Any, timeout: float | None = None) -> Any:
        handed = _HandedOver()
        with self._lock:
            if self._stopping:
                raise StopTraining(0)
            self._unanswered.add(handed)
        self._events.put((event, handed))
        answered = handed.wait(timeout)
        with self._lock:
            self._unanswered.discard(handed)
            if self._stopping:
                raise StopTraining(0)
        if not answered:
            raise TimeoutError(f"not all workers have reported as often as this one within {timeout:g} s")
        return handed.answer

    def _give_up(self, checkpoint: Checkpoint | None, mode: CheckpointUploadMode, delete: bool) -> NoReturn:
        """Nobody wants the report any more. A folder that was given away with it goes, as after its copy."""
        if checkpoint is not None and delete and mode is not CheckpointUploadMode.NO_UPLOAD:
            shutil.rmtree(checkpoint.path, ignore_errors=True)
        raise StopTraining(0)

    def _folder_name(self, folder: str | None, index: int) -> str:
        if folder is None:
            return f"{CHECKPOINT_PREFIX}{index:06d}"
        if not folder or "/" in folder or folder in self._folders:
            raise ValueError(
                f"report(checkpoint_dir_name={folder!r}): give a folder name without '/' that no earlier report used"
            )
        self._folders.add(folder)
        return folder if folder.startswith(CHECKPOINT_PREFIX) else CHECKPOINT_PREFIX + folder

    def _store(
        self,
        checkpoint: Checkpoint,
        folder: str,
        mode: CheckpointUploadMode,
        delete: bool,
        upload: Callable[[Checkpoint, str], Checkpoint] | None,
    ) -> str:
        if mode is CheckpointUploadMode.NO_UPLOAD:
            return checkpoint.path
        target = os.path.join(self.run.trial_dir, folder)
        if upload is not None:
            stored = upload(checkpoint, target)
            if not isinstance(stored, Checkpoint):
                raise TypeError(f"checkpoint_upload_fn returned {type(stored).__name__}; it must return a Checkpoint")
            return stored.path
        persist(checkpoint.path, target)
        if delete and os.path.abspath(checkpoint.path) != os.path.abspath(target):
            shutil.rmtree(checkpoint.path)
        return target

    def _guarded(self, send: Callable[[], None]) -> None:
        try:
            if self._failed is None or self._stopping:
                send()
        except BaseException as error:
            self._failed = error
        finally:
            self._pending.release()

    def _raise_upload_error(self) -> None:
        if self._stopping:
            raise StopTraining(0)
        if self._failed is not None:
            raise RuntimeError("a checkpoint's upload in the background failed") from self._failed


class SessionHere(Session):
    """Of a training function in the process that controls the run, which takes its events at once."""

    def __init__(self, take: Callable[[Any], Any], *args: Any) -> None:
        super().__init__(*args)
        self._take = take

    def _hand_over(self, event: Any, timeout: float | None = None) -> Any:
        return self._take(event)


_session: Session | None = None
_lock = threading.Lock()


def set_session(session: Session | None) -> None:
    """Of this process; a worker trains for one run at a time."""
    global _session
    with _lock:
        _session = session


def current_session() -> Session | None:
    """None outside of a training function."""
    return _session


def require_session(what: str, in_tune: bool = True) -> Session:
    """The session of this process. `in_tune`: `trireme.tune` has a function of that name.

    Raises
    ------
    RuntimeError
        There is none: the caller is no training function.
    """
    if _session is None:
        other = f" (in a Tune trainable without a trainer: trireme.tune.{what})" if in_tune else ""
        raise RuntimeError(
            f"trireme.train.{what} works only in a training function that a trainer runs in its workers{other}"
        )
    return _session
