"""Trainers: what a user makes and fits."""

from __future__ import annotations

import datetime
import inspect
import logging
import os
import pickle
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trireme.train._backend import BackendConfig, CollectiveConfig
from trireme.train._checkpoint import Checkpoint
from trireme.train._config import RunConfig, ScalingConfig
from trireme.train._result import Result
from trireme.train._shards import DataConfig

TRAINER_FILE = "trainer.pkl"
logger = logging.getLogger("trireme.train")


class DataParallelTrainer:
    """Runs a training function in a group of worker processes.

    Parameters
    ----------
    train_loop_per_worker
        The training function, called in every worker with `train_loop_config`, or without arguments if it takes none.
    train_loop_config
        A dict.
    backend_config
        How the workers find each other; a group of `trireme.util.collective` (NumPy) unless given.
    scaling_config, run_config
        See there.
    dataset_config
        Which datasets are split; all unless said otherwise.
    datasets
        Name to an array, a dict of arrays, a sequence, an iterable, a reference to one of them, or an object with
        ``streaming_split``; a worker gets its part by `trireme.train.get_dataset_shard`.
    metadata
        A dict for `TrainContext.get_metadata`.
    resume_from_checkpoint
        What `trireme.train.get_checkpoint` gives until the run has a checkpoint of its own.
    seed
        Seeds the generators of Python, NumPy and (`TorchTrainer`) torch in every worker, with ``seed + rank``.

    Raises
    ------
    TypeError, ValueError
        The function takes more than a config, a wrong type, an option that only Tune has.
    """

    _backend_default: type[BackendConfig] = CollectiveConfig

    def __init__(
        self,
        train_loop_per_worker: Callable[[], Any] | Callable[[dict[str, Any]], Any],
        *,
        train_loop_config: Mapping[str, Any] | None = None,
        backend_config: BackendConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        dataset_config: DataConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        resume_from_checkpoint: Checkpoint | None = None,
        seed: int | None = None,
    ) -> None:
        self._takes_config = _takes_config(train_loop_per_worker, train_loop_config)
        _check_type("scaling_config", scaling_config, ScalingConfig)
        _check_type("run_config", run_config, RunConfig)
        _check_type("dataset_config", dataset_config, DataConfig)
        _check_type("backend_config", backend_config, BackendConfig)
        _check_type("resume_from_checkpoint", resume_from_checkpoint, Checkpoint)
        self._function = train_loop_per_worker
        self.train_loop_config = dict(train_loop_config or {})
        self.backend_config = backend_config or self._backend_default()
        self.scaling_config = scaling_config or ScalingConfig()
        self.run_config = run_config or RunConfig()
        self.data_config = dataset_config or DataConfig()
        self.datasets = dict(datasets or {})
        self.metadata = dict(metadata or {})
        self.resume_from_checkpoint = resume_from_checkpoint
        self.seed = seed

    def fit(self) -> Result:
        """Trains, and waits for the end.

        A run with the name and storage path of an earlier one goes on from that one's latest checkpoint. With
        ``ScalingConfig(num_workers=0)`` the function runs in this process, and what it raises is raised as it is.

        Raises
        ------
        TrainingFailedError
            A worker raised or died and no restart was left, or there is no room for the workers.
        """
        import trireme
        from trireme.train._controller import Controller

        _refuse_tune_options(self.run_config)
        self.backend_config.check()
        if not trireme.is_initialized():
            trireme.init()
        name = self.run_config.name or f"{type(self).__name__}_{_stamp()}"
        path = os.path.join(self.run_config.storage_path, name)
        os.makedirs(path, exist_ok=True)
        self._save(path)
        controller = Controller(self._plan(), name, path)
        return controller.run() if self.scaling_config.max_workers else controller.run_here()

    def as_trainable(self) -> Callable[[dict[str, Any]], None]:
        """This trainer as a function trainable of Tune: each trial fits it with the trial's ``train_loop_config`` (and
        ``scaling_config``) over its own. The trial reserves the workers' places with its own.
        """
        from trireme.train._trainable import trainable_of

        return trainable_of(self)

    @classmethod
    def can_restore(cls, path: str | os.PathLike[str]) -> bool:
        """Whether `restore` finds a run in that folder."""
        return Path(path, TRAINER_FILE).is_file()

    @classmethod
    def restore(
        cls,
        path: str | os.PathLike[str],
        train_loop_per_worker: Callable[..., Any] | None = None,
        train_loop_config: Mapping[str, Any] | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: Mapping[str, Any] | None = None,
    ) -> DataParallelTrainer:
        """The trainer of an earlier run, whose `fit` goes on from its latest checkpoint.

        Parameters
        ----------
        path
            Folder of that run. It may have been moved.
        train_loop_per_worker, train_loop_config, scaling_config, run_config
            Instead of those of the earlier run. Of `run_config` the name and the path are the folder's.
        datasets
            Must be given anew when the earlier run had some: they are not stored.

        Raises
        ------
        FileNotFoundError
            No run lies there.
        ValueError
            Datasets are missing.
        """
        if not cls.can_restore(path):
            raise FileNotFoundError(f"{os.fspath(path)!r} holds no {TRAINER_FILE}: it is no folder of a training run")
        stored = pickle.loads(Path(path, TRAINER_FILE).read_bytes())
        wanted = set(stored.pop("dataset_names"))
        if wanted - set(datasets or {}):
            raise ValueError(f"the run was given the datasets {', '.join(sorted(wanted))}; give them to restore() too")
        changed = {
            "train_loop_per_worker": train_loop_per_worker,
            "train_loop_config": train_loop_config,
            "scaling_config": scaling_config,
            "run_config": run_config,
            "datasets": datasets,
        }
        stored.update({key: value for key, value in changed.items() if value is not None})
        folder = Path(path).resolve()
        stored["run_config"] = replace(stored["run_config"], name=folder.name, storage_path=str(folder.parent))
        return cls(stored.pop("train_loop_per_worker"), **stored)

    def _arguments(self) -> dict[str, Any]:
        return {
            "train_loop_per_worker": self._function,
            "train_loop_config": self.train_loop_config or None,
            "backend_config": self.backend_config,
            "scaling_config": self.scaling_config,
            "dataset_config": self.data_config,
            "run_config": self.run_config,
            "metadata": self.metadata,
            "resume_from_checkpoint": self.resume_from_checkpoint,
            "seed": self.seed,
        }

    def _save(self, path: str) -> None:
        import cloudpickle

        stored = {**self._arguments(), "dataset_names": sorted(self.datasets)}
        try:
            data = cloudpickle.dumps(stored)
        except Exception as error:
            # Only restore() needs it; the function itself is checked when it is sent to the workers.
            logger.warning("%s: the trainer cannot be pickled, so restore() will not find this run: %s", path, error)
            return
        partial = Path(path, f".{TRAINER_FILE}.{uuid.uuid4().hex}")
        partial.write_bytes(data)
        partial.replace(Path(path, TRAINER_FILE))

    def _plan(self) -> Any:
        from trireme.train._controller import Plan

        return Plan(
            function=self._function,
            config=self.train_loop_config if self._takes_config else None,
            backend=self.backend_config,
            scaling=self.scaling_config,
            run=self.run_config,
            datasets=self.datasets,
            data_config=self.data_config,
            resume_from=self.resume_from_checkpoint,
            metadata=self.metadata,
            seed=self.seed,
        )

    def __repr__(self) -> str:
        function = getattr(self._function, "__qualname__", repr(self._function))
        return f"{type(self).__name__}({function}, {self.scaling_config})"


def _takes_config(function: Callable[..., Any], config: Mapping[str, Any] | None) -> bool:
    if not callable(function):
        raise TypeError(f"train_loop_per_worker is {function!r}; give a function")
    parameters = list(inspect.signature(function).parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) > 1:
        raise TypeError(
            f"train_loop_per_worker {function!r} takes {len(required)} arguments; it may take one, the config, or none"
        )
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"train_loop_config is a {type(config).__name__}; give a dict")
    if config and not parameters:
        raise ValueError(f"train_loop_config is given, but train_loop_per_worker {function!r} takes no argument")
    return bool(parameters)


def _check_type(name: str, value: Any, wanted: type) -> None:
    if value is not None and not isinstance(value, wanted):
        raise TypeError(f"{name} is a {type(value).__name__}; give a trireme.train.{wanted.__name__}")


def _refuse_tune_options(config: RunConfig) -> None:
    from trireme.train._callback import UserCallback

    given = [
        name
        for name, default in (("stop", None), ("verbose", None), ("progress_reporter", None), ("log_to_file", False))
        if getattr(config, name) != default
    ]
    if config.failure_config.fail_fast:
        given.append("failure_config.fail_fast")
    if config.checkpoint_config.checkpoint_frequency or config.checkpoint_config.checkpoint_at_end is not None:
        given.append("checkpoint_config.checkpoint_frequency/checkpoint_at_end")
    if config.sync_config is not None and config.sync_config.sync_artifacts:
        given.append("sync_config.sync_artifacts")
    if given:
        raise ValueError(
            f"RunConfig: {', '.join(given)} only work under trireme.tune.Tuner; a trainer's function decides itself "
            "when it stops and when it reports a checkpoint"
        )
    wrong = [callback for callback in config.callbacks or () if not isinstance(callback, UserCallback)]
    if wrong:
        raise TypeError(f"RunConfig.callbacks holds {wrong[0]!r}; a trainer takes trireme.train.UserCallback objects")


def _stamp() -> str:
    return f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}_{uuid.uuid4().hex[:6]}"
