"""What a training function calls: report, get_context, get_checkpoint, get_dataset_shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trireme.train._checkpoint import Checkpoint
from trireme.train._session import CheckpointUploadMode, TrainContext, require_session
from trireme.train._shards import DataShard


def report(
    metrics: Mapping[str, Any],
    checkpoint: Checkpoint | None = None,
    checkpoint_dir_name: str | None = None,
    checkpoint_upload_mode: CheckpointUploadMode = CheckpointUploadMode.SYNC,
    delete_local_checkpoint_after_upload: bool | None = None,
    checkpoint_upload_fn: Callable[[Checkpoint, str], Checkpoint] | None = None,
) -> None:
    """Reports metrics, and a checkpoint with them. Every worker calls it equally often.

    A report counts once all workers made it: with the metrics of rank 0, and one checkpoint that holds the files
    of all workers that gave one. Returns when the run has it, so that a death afterwards does not lose it.

    Parameters
    ----------
    metrics
        Any dict; what goes to files must be numbers, strings, lists and dicts of them.
    checkpoint
        Its files are copied into the run's folder.
    checkpoint_dir_name
        Name of its folder there, the same on every worker; made from the number of the report when None.
    checkpoint_upload_mode
        ``SYNC``: copied when this returns. ``ASYNC``: copied in the background. ``NO_UPLOAD``: stays where it lies.
    delete_local_checkpoint_after_upload
        Deletes the folder that was given once it is copied; with ``ASYNC`` unless said otherwise.
    checkpoint_upload_fn
        Copies instead of the runtime: called with the checkpoint and the target folder, returns the stored one.

    Raises
    ------
    RuntimeError
        Not within a training function; or an earlier copy in the background failed.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(f"report() takes a dict of metrics, not {type(metrics).__name__}")
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        raise TypeError(
            f"report(checkpoint=...) takes a trireme.train.Checkpoint, not {type(checkpoint).__name__}; make one with "
            "Checkpoint.from_directory(folder)"
        )
    mode = CheckpointUploadMode(checkpoint_upload_mode)
    require_session("report").report(
        metrics, checkpoint, checkpoint_dir_name, mode, delete_local_checkpoint_after_upload, checkpoint_upload_fn
    )


def get_context() -> TrainContext:
    """Ranks, sizes and names; see `TrainContext`."""
    return require_session("get_context").context


def get_checkpoint() -> Checkpoint | None:
    """The checkpoint to go on from: the latest of the run, else the one that the trainer was given, else None."""
    return require_session("get_checkpoint").checkpoint


def get_dataset_shard(dataset_name: str | None = None) -> DataShard | Any:
    """This worker's part of a dataset given to the trainer.

    Parameters
    ----------
    dataset_name
        Key in the trainer's `datasets`; may be left out when there is one.

    Returns
    -------
    DataShard
        See there; for a dataset that splits itself, the iterator it made.

    Raises
    ------
    KeyError
        The trainer has no dataset of that name.
    """
    session = require_session("get_dataset_shard")
    if dataset_name is None and len(session.shards) == 1:
        return next(iter(session.shards.values()))
    if dataset_name not in session.shards:
        raise KeyError(
            f"no dataset {dataset_name!r}; the trainer was given: {', '.join(sorted(session.shards)) or 'none'}"
        )
    return session.shards[dataset_name]
