"""Inside a trial: what the trainable asks of the search, and what it tells it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trireme.train._checkpoint import Checkpoint
from trireme.tune.execution.placement_groups import PlacementGroupFactory


@dataclass
class TrialInfo:
    """What the trial's process knows of its trial. Plain data, sent to it."""

    experiment_name: str
    storage_path: str
    trial_id: str
    trial_name: str
    trial_dir: str
    resources: PlacementGroupFactory
    next_checkpoint: int = 0  # number of the next folder
    checkpoint_frequency: int = 0  # of class trainables
    in_object_store: bool = False  # checkpoints are also put into the object store
    change_directory: bool = True
    log_to_file: tuple[str, str] | None = None
    iteration: int = 0  # of the checkpoint that the trial goes on from
    time_total_s: float = 0.0
    driver_directory: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


class TuneContext:
    """Who this trial is. From `get_context`; any thread of the trial's process."""

    def __init__(self, info: TrialInfo) -> None:
        self._info = info

    def get_experiment_name(self) -> str:
        """Name of the search."""
        return self._info.experiment_name

    def get_trial_name(self) -> str:
        """Name of the trial."""
        return self._info.trial_name

    def get_trial_id(self) -> str:
        """Id of the trial."""
        return self._info.trial_id

    def get_trial_resources(self) -> PlacementGroupFactory:
        """What the trial reserved."""
        return self._info.resources

    def get_trial_dir(self) -> str:
        """The trial's folder."""
        return self._info.trial_dir

    def get_storage(self) -> str:
        """`RunConfig.storage_path`."""
        return self._info.storage_path

    def get_world_size(self) -> int:
        """1: a trial is one process (a trainer's workers have a context of their own)."""
        return 1

    def get_world_rank(self) -> int:
        """0; see `get_world_size`."""
        return 0

    get_local_rank = get_node_rank = get_world_rank
    get_local_world_size = get_world_size

    def __repr__(self) -> str:
        return f"TuneContext(trial={self._info.trial_name!r}, experiment={self._info.experiment_name!r})"


Reporter = Callable[[dict[str, Any], "Checkpoint | None"], None]

_info: TrialInfo | None = None
_report: Reporter | None = None
_checkpoint: Checkpoint | None = None


def enter(info: TrialInfo, reporter: Reporter | None = None, checkpoint: Checkpoint | None = None) -> None:
    """Makes this process the trial's. One trial at a time."""
    global _info, _report, _checkpoint
    _info, _report, _checkpoint = info, reporter, checkpoint


def leave() -> None:
    """This process is no trial's any more."""
    global _info, _report, _checkpoint
    _info = _report = _checkpoint = None


def current_trial() -> TrialInfo | None:
    """None outside of a trial."""
    return _info


def report(metrics: Mapping[str, Any], *, checkpoint: Checkpoint | None = None) -> None:
    """Tells the search how a function trainable is doing. Returns when the search has decided that it goes on; when it
    shall stop, SystemExit is raised here, so that ``finally`` blocks run.

    Parameters
    ----------
    metrics
        Names to values. Nested dicts are looked into as ``a/b``.
    checkpoint
        Files to keep with it; copied into the trial's folder before this returns.

    Outside of a search it warns and does nothing, so that a trainable can be tried by a plain call.

    Raises
    ------
    RuntimeError
        The caller is a class trainable.
    TypeError
        `metrics` is no dict, `checkpoint` no `Checkpoint`.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(f"tune.report() takes a dict of metrics, such as {{'loss': 0.1}}, not {type(metrics).__name__}")
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        raise TypeError(
            "tune.report(checkpoint=...) takes a Checkpoint, as Checkpoint.from_directory(folder) gives it, "
            f"not {type(checkpoint).__name__}"
        )
    if _report is None:
        if _info is not None:
            raise RuntimeError(
                "tune.report() works only in a function that a Tuner runs: a class trainable returns its metrics from step()"
            )
        warnings.warn("tune.report() has no effect: this process runs no trial of a Tuner", stacklevel=2)
        return
    _report(dict(metrics), checkpoint)


def get_checkpoint() -> Checkpoint | None:
    """What the trial goes on from: its own latest checkpoint after a restart, another trial's under population based
    training; None at the start, and outside of a search."""
    return _checkpoint


def get_context() -> TuneContext:
    """Who this trial is.

    Raises
    ------
    RuntimeError
        The caller is in no trial.
    """
    if _info is None:
        raise RuntimeError("tune.get_context() works only in a trainable that a Tuner runs")
    return TuneContext(_info)


def get_trial_id() -> str:
    """``get_context().get_trial_id()``."""
    return get_context().get_trial_id()


def get_trial_name() -> str:
    """``get_context().get_trial_name()``."""
    return get_context().get_trial_name()


def get_trial_dir() -> str:
    """``get_context().get_trial_dir()``."""
    return get_context().get_trial_dir()


def get_trial_resources() -> PlacementGroupFactory:
    """``get_context().get_trial_resources()``."""
    return get_context().get_trial_resources()
