"""All that defines a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trireme.train._config import CheckpointConfig, FailureConfig
from trireme.tune.callback import Callback
from trireme.tune.schedulers.trial_scheduler import TrialScheduler
from trireme.tune.search.searcher import Searcher
from trireme.tune.stopper import Stopper


@dataclass
class Experiment:
    """A search, resolved: every default is filled in."""

    trainable: Any  # a function or a Trainable class
    trainable_name: str
    space: dict[str, Any]
    name: str
    storage_path: str
    path: str
    metric: str | None
    mode: str | None
    num_samples: int
    searcher: Searcher
    scheduler: TrialScheduler
    stopper: Stopper
    callbacks: Sequence[Callback]
    reporter: Any = None
    max_concurrent: int | None = None
    failure: FailureConfig = field(default_factory=FailureConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    reuse_actors: bool = False
    trial_name_creator: Callable[[Any], str] | None = None
    trial_dirname_creator: Callable[[Any], str] | None = None
    log_to_file: tuple[str, str] | None = None
    runtime_env: Mapping[str, Any] | None = None
    change_directory: bool = True
    strict_metric: bool = True
