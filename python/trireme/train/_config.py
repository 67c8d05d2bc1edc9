"""How a training run is scaled, stored, checkpointed and restarted: the configuration classes of Ray, plain data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


def default_storage_path() -> str:
    """Where results go when ``RunConfig.storage_path`` is not given.

    Returns
    -------
    str
        ``$TRIREME_STORAGE_PATH``, else ``~/trireme_results``.
    """
    return os.environ.get("TRIREME_STORAGE_PATH") or str(Path("~/trireme_results").expanduser())


@dataclass
class ScalingConfig:
    """How many workers train, and what each of them gets.

    Parameters
    ----------
    num_workers
        Number of worker processes; or a pair ``(min, max)``: as many as have room, decided anew at each (re)start. 0: the function
        runs in the process that calls ``fit``, for debuggers.
    use_gpu
        One GPU for each worker, unless `resources_per_worker` says how many.
    resources_per_worker
        ``{"CPU": 1}`` unless given (with `use_gpu`, ``{"CPU": 1, "GPU": 1}``); ``memory`` is in bytes.
    placement_strategy
        ``PACK``, ``SPREAD``, ``STRICT_PACK`` or ``STRICT_SPREAD``, as for placement groups.
    accelerator_type
        Workers only where there is such a GPU (a node's label ``accelerator_type``).
    trainer_resources
        Of the process that runs the trainer when it is a Tune trial; nothing unless given.
    label_selector
        Labels of the nodes where the workers go, as `label_selector` of a task; or a list, one for each of the workers (of the
        most of them), in no order of ranks. Not in a Tune trial.

    Raises
    ------
    ValueError
        A negative worker count, an unknown strategy, a negative resource, ``use_gpu`` with 0 GPUs.
    """

    num_workers: int | tuple[int, int] = 1
    use_gpu: bool = False
    resources_per_worker: Mapping[str, float] | None = None
    placement_strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    accelerator_type: str | None = None
    trainer_resources: Mapping[str, float] | None = None
    label_selector: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None

    def __post_init__(self) -> None:
        pair = self.num_workers if isinstance(self.num_workers, (tuple, list)) else (self.num_workers,) * 2
        whole = len(pair) == 2 and all(isinstance(n, int) and not isinstance(n, bool) for n in pair)
        here = self.num_workers == 0 and whole
        if not here and (not whole or not 1 <= pair[0] <= pair[1]):
            raise ValueError(
                f"ScalingConfig.num_workers is {self.num_workers!r}; give a number of workers from 1 on, "
                "(min, max) with 1 <= min <= max, or 0 to train in this process"
            )
        if isinstance(self.num_workers, list):
            self.num_workers = (pair[0], pair[1])
        if self.placement_strategy not in STRATEGIES:
            raise ValueError(
                f"ScalingConfig.placement_strategy is {self.placement_strategy!r}; give one of {', '.join(STRATEGIES)}"
            )
        for owner, wanted in (
            ("resources_per_worker", self.resources_per_worker),
            ("trainer_resources", self.trainer_resources),
        ):
            for name, amount in (wanted or {}).items():
                if not isinstance(amount, (int, float)) or amount < 0:
                    raise ValueError(f"ScalingConfig.{owner}[{name!r}] is {amount!r}; give a number from 0 on")
        selector = self.label_selector
        if selector is not None and not isinstance(selector, Mapping) and len(selector) != pair[1]:
            raise ValueError(
                f"ScalingConfig.label_selector lists {len(selector)} selectors for {pair[1]} workers; give one for each, or "
                "one dict for all"
            )
        gpus = (self.resources_per_worker or {}).get("GPU")
        if self.use_gpu and gpus == 0:
            raise ValueError("ScalingConfig.use_gpu is set but resources_per_worker asks for 0 GPUs; drop one of them")
        if not self.use_gpu and gpus:
            raise ValueError(f"resources_per_worker asks for {gpus} GPU(s) but use_gpu is not set; set use_gpu=True")

    @property
    def min_workers(self) -> int:
        """The fewest workers that the run goes on with."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def max_workers(self) -> int:
        """The most workers that the run uses."""
        return self.num_workers[1] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def elastic(self) -> bool:
        """True when the number of workers may change from one start of the group to the next."""
        return isinstance(self.num_workers, tuple)

    @property
    def num_cpus_per_worker(self) -> float:
        """CPUs of one worker."""
        return self.worker_resources().get("CPU", 0)

    @property
    def num_gpus_per_worker(self) -> float:
        """GPUs of one worker."""
        return self.worker_resources().get("GPU", 0)

    @property
    def additional_resources_per_worker(self) -> dict[str, float]:
        """What one worker reserves beside CPUs and GPUs."""
        return {name: amount for name, amount in self.worker_resources().items() if name not in ("CPU", "GPU")}

    @property
    def total_resources(self) -> dict[str, float]:
        """What the most workers reserve together, with the trainer of a Tune trial."""
        total = dict(self.trainer_resources or {})
        for name, amount in self.worker_resources().items():
            total[name] = total.get(name, 0) + amount * self.max_workers
        return total

    def worker_labels(self, count: int) -> list[dict[str, str]] | None:
        """The label selectors of `count` workers; None when nothing is asked for."""
        if self.label_selector is None:
            return None
        if isinstance(self.label_selector, Mapping):
            return [dict(self.label_selector)] * count
        return [dict(selector) for selector in self.label_selector[:count]]

    def worker_resources(self) -> dict[str, float]:
        """What one worker reserves.

        Returns
        -------
        dict
            Resource name to amount; names that the user gave as 0 are left out.
        """
        wanted = dict(self.resources_per_worker or {"CPU": 1})
        if self.use_gpu:
            wanted.setdefault("GPU", 1)
        return {name: amount for name, amount in wanted.items() if amount}


@dataclass
class FailureConfig:
    """What happens when a worker dies or raises.

    Parameters
    ----------
    max_failures
        How often the group is started again from the last checkpoint; 0 never, -1 without limit.
    fail_fast
        For Tune: end the whole search at the first failed trial; ``"raise"`` raises its error at once.
    """

    max_failures: int = 0
    fail_fast: bool | Literal["raise"] = False

    def __post_init__(self) -> None:
        if not isinstance(self.max_failures, int) or self.max_failures < -1:
            raise ValueError(
                f"FailureConfig.max_failures is {self.max_failures!r}; give a number of restarts, or -1 for no limit"
            )
        if self.fail_fast not in (False, True, "raise"):
            raise ValueError(f"FailureConfig.fail_fast is {self.fail_fast!r}; give False, True or 'raise'")
        if self.fail_fast and self.max_failures != 0:
            raise ValueError("FailureConfig.fail_fast and max_failures exclude each other; leave max_failures at 0")


@dataclass
class CheckpointConfig:
    """Which checkpoints are kept.

    Parameters
    ----------
    num_to_keep
        At most so many, and always the latest, from which a restart goes on; None keeps all.
    checkpoint_score_attribute
        Reported metric by which the best are kept (``a/b`` looks into nested dicts); None: the newest are.
    checkpoint_score_order
        ``"max"`` or ``"min"``: which score is the better one.
    checkpoint_frequency
        For class trainables of Tune: save each so many iterations; 0 never.
    checkpoint_at_end
        For class trainables of Tune: save at the end of the trial.
    """

    num_to_keep: int | None = None
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: Literal["max", "min"] = "max"
    checkpoint_frequency: int = 0
    checkpoint_at_end: bool | None = None

    def __post_init__(self) -> None:
        if self.num_to_keep is not None and (not isinstance(self.num_to_keep, int) or self.num_to_keep < 1):
            raise ValueError(
                f"CheckpointConfig.num_to_keep is {self.num_to_keep!r}; keep at least 1 checkpoint, or None for all "
                "(a run that must write none reports none)"
            )
        if self.checkpoint_score_order not in ("max", "min"):
            raise ValueError(
                f"CheckpointConfig.checkpoint_score_order is {self.checkpoint_score_order!r}; give 'max' or 'min'"
            )
        if not isinstance(self.checkpoint_frequency, int) or self.checkpoint_frequency < 0:
            raise ValueError(
                f"CheckpointConfig.checkpoint_frequency is {self.checkpoint_frequency!r}; give a number from 0 on"
            )


@dataclass
class SyncConfig:
    """What of a trial's files is brought into `RunConfig.storage_path`. A trial of Tune works in its folder there, so all that
    it writes is in place at once: there is nothing to wait for, and nothing that can be late.

    Parameters
    ----------
    sync_period, sync_timeout
        In seconds: how old what is there may be, and how long bringing it there may take.
    sync_artifacts
        True: files that a trial writes into its working directory are kept. Under `Trainer.fit` it is an error, for workers
        have no such directory: put files into a reported checkpoint.
    sync_artifacts_on_checkpoint
        Also at each checkpoint.
    """

    sync_period: float = 300
    sync_timeout: float = 1800
    sync_artifacts: bool = False
    sync_artifacts_on_checkpoint: bool = True


@dataclass
class RunConfig:
    """Where a run is stored and how it behaves.

    Parameters
    ----------
    name
        Of the run's folder below `storage_path`; made from the date when None.
    storage_path
        A folder that every rank of the job reaches, such as a parallel file system; `default_storage_path` when None.
    failure_config, checkpoint_config, sync_config
        See there.
    callbacks
        For a trainer: functions or objects called with each report (see `trireme.train.UserCallback`); for Tune: its
        own callbacks.
    worker_runtime_env
        ``runtime_env`` of the workers, as in ``trireme.remote``.
    stop, verbose, progress_reporter, log_to_file
        For Tune: when trials stop, how much is printed and by what, whether trials' output goes to files.
    """

    name: str | None = None
    storage_path: str | os.PathLike[str] | None = None
    failure_config: FailureConfig | None = None
    checkpoint_config: CheckpointConfig | None = None
    sync_config: SyncConfig | None = None
    callbacks: Sequence[Any] | None = None
    worker_runtime_env: Mapping[str, Any] | None = None
    stop: Mapping[str, Any] | Callable[[str, Mapping[str, Any]], bool] | Any | None = None
    verbose: int | None = None
    progress_reporter: Any | None = None
    log_to_file: bool | str | tuple[str, str] = False

    def __post_init__(self) -> None:
        if self.name is not None and (not self.name or "/" in self.name):
            raise ValueError(f"RunConfig.name is {self.name!r}; give the name of a folder, without '/'")
        path = os.fspath(self.storage_path) if self.storage_path is not None else default_storage_path()
        if "://" in path and not path.startswith("file://"):
            raise ValueError(
                f"RunConfig.storage_path is {path!r}; give a folder that every rank of the job reaches (remote stores "
                "must be mounted)"
            )
        self.storage_path = os.path.abspath(os.path.expanduser(path.removeprefix("file://")))
        self.failure_config = self.failure_config or FailureConfig()
        self.checkpoint_config = self.checkpoint_config or CheckpointConfig()
