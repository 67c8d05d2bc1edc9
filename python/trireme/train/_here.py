"""A training function in the process that called `fit`: one worker that is none, for debuggers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trireme.train._checkpoint import Checkpoint
from trireme.train._session import Place, SessionHere, current_session, set_session
from trireme.train._shards import DataConfig, shard_of
from trireme.train._worker import Order, TrainWorker, Work, seed_all, set_environment


def train_here(work: Work, datasets: Mapping[str, Any], data_config: DataConfig, take: Callable[[Any], Any]) -> Any:
    """Runs the function to its end and returns what it returns; `take` gets its events and answers them.

    Raises
    ------
    RuntimeError
        This process trains already.
    """
    if current_session() is not None:
        raise RuntimeError("ScalingConfig(num_workers=0): this process trains already; a training function cannot fit in it")
    place = Place(0, 1, 0, 1, 0)
    checkpoint = Checkpoint(work.checkpoint) if work.checkpoint else None
    shards = {name: _shard(data, data_config.splits(name), data_config.equal) for name, data in datasets.items()}
    session = SessionHere(take, place, work.run, checkpoint, shards, work.first_report)
    meeting = work.backend.rendezvous([TrainWorker().describe()], work.run.trial_id)
    with _environment(Order(work, place, meeting, {})):
        set_session(session)
        try:
            if work.seed is not None:
                seed_all(work.seed)
            work.backend.join(session, meeting)
            try:
                returned = work.function() if work.config is None else work.function(work.config)
                session.finish()
            finally:
                work.backend.leave(session)
        finally:
            set_session(None)
    return returned


def _shard(data: Any, split: bool, equal: bool) -> Any:
    import trireme

    if hasattr(data, "streaming_split"):
        return data.streaming_split(1, equal=equal)[0] if split else data
    return shard_of(trireme.get(data) if isinstance(data, trireme.ObjectRef) else data, 0, 1, split, equal)


@contextlib.contextmanager
def _environment(order: Order) -> Iterator[None]:
    before = dict(os.environ)
    set_environment(order)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
