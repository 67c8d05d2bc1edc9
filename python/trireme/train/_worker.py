"""The actor in which a training function runs."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trireme.train._backend import BackendConfig, WorkerFacts
from trireme.train._checkpoint import Checkpoint
from trireme.train._session import Meeting, Place, Question, Report, RunInfo, Session, set_session
from trireme.train._shards import shard_of

logger = logging.getLogger("trireme.train")


@dataclass
class Shard:
    """A dataset on its way to a worker: a reference to it, or what it made of itself for this worker."""

    data: Any
    is_ref: bool
    split: bool
    equal: bool


@dataclass(frozen=True)
class Work:
    """What every worker of a start shall run."""

    run: RunInfo
    function: Callable[..., Any]
    config: dict[str, Any] | None  # None: the function takes no argument
    backend: BackendConfig
    checkpoint: str | None
    first_report: int
    seed: int | None


@dataclass(frozen=True)
class Order:
    """What one worker shall run."""

    work: Work
    place: Place
    meeting: Any
    shards: dict[str, Shard]


@dataclass
class Ended:
    """The last event of a worker. `error` is None when its function returned; of rank 0, what it returned."""

    error: BaseException | None = None
    trace: str = field(default="", repr=False)
    returned: Any = None


class Returned:
    """A worker's function has returned. Leaving the backend may wait for the others after that."""


class TrainWorker:
    """One worker. Made and called by the controller only; the training function runs in a thread of its own, so that
    `next` can wait for what it reports.

    Threading: one call at a time, but `stop` beside a `next` that waits.
    """

    def __init__(self) -> None:
        self._session: Session | None = None
        self._thread: threading.Thread | None = None

    def describe(self) -> WorkerFacts:
        """Where this worker is."""
        import trireme

        context = trireme.get_runtime_context()
        gpus = tuple(int(gpu) for gpu in context.get_accelerator_ids().get("GPU", ()))
        return WorkerFacts(context.get_node_id(), socket.gethostname(), _address(), os.getpid(), gpus)

    def rendezvous(self, backend: BackendConfig, facts: list[WorkerFacts], run_id: str) -> Any:
        """See `BackendConfig.rendezvous`; what it makes (a store that listens) lives on in this process."""
        return backend.rendezvous(facts, run_id)

    def start(self, order: Order) -> None:
        """Begins to train; returns at once."""
        work = order.work
        self._session = Session(
            order.place,
            work.run,
            Checkpoint(work.checkpoint) if work.checkpoint else None,
            {name: _open(shard, order.place) for name, shard in order.shards.items()},
            work.first_report,
        )
        set_session(self._session)
        set_environment(order)
        self._thread = threading.Thread(target=self._train, args=(order,), name="train", daemon=True)
        self._thread.start()

    def next(self, answer: Any = None) -> Report | Meeting | Question | Returned | Ended:
        """What the training function does next, in order, or how it ended; waits for it. `answer`: to what it did last."""
        return self._session.next(answer)

    def stop(self) -> None:
        """Ends the training function at its next report, or where it waits in one; returns when it has ended."""
        if self._thread is not None:
            self._session.stop()
            self._thread.join()
            self._session.end_uploads()

    def _train(self, order: Order) -> None:
        session, work = self._session, order.work
        try:
            if work.seed is not None:
                seed_all(work.seed + order.place.world_rank)
            work.backend.join(session, order.meeting)
            returned = work.function() if work.config is None else work.function(work.config)
            session.finish()
            session.end(Returned())
            work.backend.leave(session)
            ended = Ended(returned=_sendable_value(returned) if order.place.world_rank == 0 else None)
        except BaseException as error:
            ended = Ended(_sendable(error), traceback.format_exc())
        session.end(ended)


def _open(shard: Shard, place: Place) -> Any:
    if not shard.is_ref:
        return shard.data
    import trireme

    return shard_of(trireme.get(shard.data), place.world_rank, place.world_size, shard.split, shard.equal)


def set_environment(order: Order) -> None:
    """What launchers of trainings set, and how many threads libraries may start."""
    place = order.place
    os.environ.update(
        RANK=str(place.world_rank),
        WORLD_SIZE=str(place.world_size),
        LOCAL_RANK=str(place.local_rank),
        LOCAL_WORLD_SIZE=str(place.local_world_size),
        NODE_RANK=str(place.node_rank),
    )
    # Numerical libraries start a thread for every core of the machine unless told what this worker reserved.
    threads = str(max(1, int(order.work.run.resources.get("CPU", 1))))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, threads)


def seed_all(seed: int) -> None:
    """Seeds the generators that a training may draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _address() -> str:
    """An IPv4 address of this host for others: that of the interface with the default route, else of the name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # documentation address; UDP, so nothing is sent
        return probe.getsockname()[0]
    with contextlib.suppress(OSError):
        return socket.gethostbyname(socket.gethostname())
    return "127.0.0.1"


def _sendable_value(value: Any) -> Any:
    """For `Result.return_value`; a value that cannot be sent does not fail a training that is over."""
    if value is None:
        return None
    import cloudpickle

    try:
        cloudpickle.dumps(value)
    except Exception as error:
        logger.warning("Result.return_value will be None: what the training function returned cannot be sent: %s", error)
        return None
    return value


def _sendable(error: BaseException) -> BaseException:
    import pickle

    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
