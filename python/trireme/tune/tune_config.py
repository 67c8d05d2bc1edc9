"""What is searched, and how."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from trireme.tune.schedulers.trial_scheduler import TrialScheduler
from trireme.tune.search.searcher import Searcher


@dataclass
class ResumeConfig:
    """What becomes of the trials of a search that goes on: of each kind, ``"resume"`` (from its latest checkpoint),
    ``"restart"`` (from the beginning) or ``"skip"`` (it stays as it is).

    Parameters
    ----------
    finished
        Trials that ended well.
    unfinished
        Those that had not ended; skipped, they end where they are.
    errored
        Those that failed.
    """

    class ResumeType(StrEnum):
        """The three."""

        RESUME = "resume"
        RESTART = "restart"
        SKIP = "skip"

    finished: str = ResumeType.SKIP.value
    unfinished: str = ResumeType.RESUME.value
    errored: str = ResumeType.SKIP.value

    def __post_init__(self) -> None:
        for name in ("finished", "unfinished", "errored"):
            value = getattr(self, name)
            if value not in list(self.ResumeType):
                raise ValueError(f"ResumeConfig.{name} is {value!r}; give 'resume', 'restart' or 'skip'")
            setattr(self, name, self.ResumeType(value).value)


@dataclass
class TuneConfig:
    """What is searched, and how.

    Parameters
    ----------
    metric
        Reported value to optimise; ``a/b`` looks into nested dicts.
    mode
        ``"max"`` or ``"min"``.
    search_alg
        Proposes configurations: a `Searcher`, or its name; random and grid search when None.
    scheduler
        Decides which trials go on: a `TrialScheduler`, or its name; all of them when None.
    num_samples
        How often the search space is sampled: sweeps of the grid, or trials when there is none. -1: until something
        stops the search.
    max_concurrent_trials
        At most so many at a time; None: as many as have room.
    time_budget_s
        The search stops after so many seconds (or a timedelta).
    reuse_actors
        True: a trial's process takes up the next trial; what the trainable left in the process stays there.
    trial_name_creator, trial_dirname_creator
        Functions of the trial that return its name, and the name of its folder.
    """

    metric: str | None = None
    mode: Literal["max", "min"] | None = None
    search_alg: Searcher | str | None = None
    scheduler: TrialScheduler | str | None = None
    num_samples: int = 1
    max_concurrent_trials: int | None = None
    time_budget_s: float | datetime.timedelta | None = None
    reuse_actors: bool = False
    trial_name_creator: Callable[[Any], str] | None = None
    trial_dirname_creator: Callable[[Any], str] | None = None

    def __post_init__(self) -> None:
        if self.mode not in (None, "max", "min"):
            raise ValueError(f"TuneConfig.mode is {self.mode!r}; give 'max' or 'min'")
        if not isinstance(self.num_samples, int) or self.num_samples == 0 or self.num_samples < -1:
            raise ValueError(
                f"TuneConfig.num_samples is {self.num_samples!r}; give a number from 1 on, or -1 for no end"
            )
        if self.max_concurrent_trials is not None and self.max_concurrent_trials < 0:
            raise ValueError(
                f"TuneConfig.max_concurrent_trials is {self.max_concurrent_trials}; give 1 or more, or None"
            )
        if self.search_alg is not None and not isinstance(self.search_alg, (str, Searcher)):
            raise TypeError(f"TuneConfig.search_alg is {self.search_alg!r}; give a Searcher or its name")
        if self.scheduler is not None and not isinstance(self.scheduler, (str, TrialScheduler)):
            raise TypeError(f"TuneConfig.scheduler is {self.scheduler!r}; give a TrialScheduler or its name")
