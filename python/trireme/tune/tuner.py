"""The entry point of a search."""

from __future__ import annotations

import copy
import logging
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trireme.train._config import RunConfig
from trireme.tune.execution.journal import JOURNAL_FILE, set_aside
from trireme.tune.execution.resume import is_search
from trireme.tune.result_grid import ResultGrid
from trireme.tune.setup import experiment_name, make_experiment
from trireme.tune.trainable.util import name_of
from trireme.tune.tune_config import ResumeConfig, TuneConfig

if TYPE_CHECKING:
    from trireme.tune.execution.room import Room
    from trireme.tune.execution.tune_controller import TuneController

TUNER_FILE = "tuner.pkl"

logger = logging.getLogger("trireme.tune")


class Tuner:
    """A hyper-parameter search.

    Parameters
    ----------
    trainable
        A function of the configuration, a `Trainable` class, a trainer of `trireme.train`, or a registered name.
    param_space
        Values, domains (`uniform`, `choice`, ...) and grids (`grid_search`), in nested dicts. For a trainer:
        ``{"train_loop_config": {...}}``.
    tune_config, run_config
        See there. A trainer's own `run_config` is used when none is given.
    """

    def __init__(
        self,
        trainable: Any = None,
        *,
        param_space: Mapping[str, Any] | None = None,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
    ) -> None:
        if trainable is None:
            raise TypeError("Tuner needs a trainable: a function of the configuration, a Trainable class or a trainer")
        self._trainable = trainable
        self._space = param_space if param_space is not None else {}
        self._tune_config = tune_config or TuneConfig()
        self._run_config = run_config or _run_config_of(trainable)
        self._resume: ResumeConfig | None = None
        self._grid: ResultGrid | None = None

    def fit(self) -> ResultGrid:
        """Runs the search to its end (or to Ctrl-C; it can then be resumed).

        Returns
        -------
        ResultGrid
            One result for each trial. Failed trials are in it, with their errors.

        Raises
        ------
        TuneError
            The search cannot be run as defined.
        FileExistsError
            A search of that name runs now. (One that has ended stays in the folder, under numbered names: see docs/tune.md.)
        """
        from trireme.tune.execution.room import Room, run_together

        search = self._make(Room())
        run_together([search])
        self._grid = search.results()
        return self._grid

    def _make(self, room: Room) -> TuneController:
        """The search, ready to run."""
        from trireme.tune.execution.actor_backend import ActorBackend
        from trireme.tune.execution.tune_controller import TuneController

        name = self._run_config.name or experiment_name(_identifier(self._trainable))
        # Searcher, scheduler and stopper change while they run; the tuner's own stay as they were given.
        tune_config = (
            replace(
                self._tune_config,
                search_alg=copy.copy(self._tune_config.search_alg),
                scheduler=copy.copy(self._tune_config.scheduler),
            )
            if self._resume is not None
            else self._tune_config
        )
        path = os.path.join(str(self._run_config.storage_path), name)
        if self._resume is None and is_search(path):
            number = set_aside(path, TUNER_FILE)
            logger.warning(
                "%r holds a search already; it stays there as number %d, and this one begins anew. Tuner.restore(path, trainable) "
                "would go on with it",
                path,
                number,
            )
        os.makedirs(path, exist_ok=True)
        saved = self._pickled() if self._resume is None else None
        experiment = make_experiment(self._trainable, self._space, tune_config, self._run_config, name)
        if saved is not None:
            _write(os.path.join(path, TUNER_FILE), saved)
        controller = TuneController(experiment, ActorBackend(), room)
        if self._resume is not None:
            controller.restore(self._resume)
        return controller

    def get_results(self) -> ResultGrid:
        """What `fit` returned; of a restored search, what it has so far.

        Raises
        ------
        RuntimeError
            `fit` was not called.
        """
        if self._grid is None and self._resume is not None:
            path = os.path.join(str(self._run_config.storage_path), str(self._run_config.name))
            return ResultGrid.from_path(path, self._tune_config.metric, self._tune_config.mode)
        if self._grid is None:
            raise RuntimeError("there are no results before Tuner.fit()")
        return self._grid

    @classmethod
    def can_restore(cls, path: str | os.PathLike[str]) -> bool:
        """Whether `restore` finds a search in that folder."""
        return all(os.path.exists(os.path.join(path, file)) for file in (TUNER_FILE, JOURNAL_FILE))

    @classmethod
    def restore(
        cls,
        path: str | os.PathLike[str],
        trainable: Any,
        resume_unfinished: bool = True,
        resume_errored: bool = False,
        restart_errored: bool = False,
        param_space: Mapping[str, Any] | None = None,
        _resume_config: ResumeConfig | None = None,
    ) -> Tuner:
        """A search that was interrupted or killed; `fit` goes on with it.

        Parameters
        ----------
        path
            Its folder; it may have been moved.
        trainable
            The same as before: one of another name is an error.
        resume_unfinished
            True: trials that had not ended go on from their latest checkpoints (or from the start).
        resume_errored, restart_errored
            Failed trials go on from their latest checkpoints; or start from the beginning.
        param_space
            The same as before, when it held objects that cannot be pickled or references, which do not survive. Its
            values may be new, its keys not.
        _resume_config
            In place of the flags, and also for trials that ended well.

        Raises
        ------
        ValueError
            `trainable` has another name, or `param_space` other keys, than what the search was started with.
        FileNotFoundError
            There is no search in that folder.
        """
        folder = os.path.abspath(os.path.expanduser(os.fspath(path)))
        if not cls.can_restore(folder):
            raise FileNotFoundError(f"{folder!r} holds no {TUNER_FILE} and {JOURNAL_FILE}: it is no folder of a search")
        with open(os.path.join(folder, TUNER_FILE), "rb") as file:
            stored = pickle.load(file)
        began = stored.get("trainable")
        if began is not None and began != _identifier(trainable):
            raise ValueError(
                f"the search in {folder!r} was started with the trainable {began!r}, not with {_identifier(trainable)!r}; "
                "give restore() the same one"
            )
        keys = stored.get("space_keys")
        if param_space is not None and keys is not None and keys != (given := _keys(param_space)):
            raise ValueError(
                f"the param_space of the search in {folder!r} has the keys {', '.join(keys) or '(none)'}, not "
                f"{', '.join(given) or '(none)'}; leave it out, or give the same one for objects that could not be stored"
            )
        if stored["space"] is None and param_space is None:
            raise ValueError("the search's param_space could not be stored; give it to restore()")
        run_config = replace(stored["run_config"], name=os.path.basename(folder), storage_path=os.path.dirname(folder))
        tuner = cls(
            trainable,
            param_space=param_space if param_space is not None else stored["space"],
            tune_config=stored["tune_config"],
            run_config=run_config,
        )
        tuner._resume = _resume_config or ResumeConfig(
            unfinished="resume" if resume_unfinished else "skip",
            errored="restart" if restart_errored else "resume" if resume_errored else "skip",
        )
        return tuner

    def _pickled(self) -> bytes:
        import cloudpickle

        stored: dict[str, Any] = {
            "trainable": _identifier(self._trainable),
            "space": dict(self._space),
            "space_keys": _keys(self._space) if isinstance(self._space, Mapping) else None,
            "tune_config": self._tune_config,
            "run_config": self._run_config,
        }
        try:
            return cloudpickle.dumps(stored)
        except Exception:
            # A reporter that writes to an open file, a space with references: what restore() can do without.
            stored["run_config"] = replace(self._run_config, progress_reporter=None)
        try:
            return cloudpickle.dumps(stored)
        except Exception:
            stored["space"] = None
            return cloudpickle.dumps(stored)

    def __repr__(self) -> str:
        return f"Tuner({name_of(self._trainable)}, {self._tune_config.num_samples} sample(s) of {self._space})"


def _identifier(trainable: Any) -> str:
    return trainable if isinstance(trainable, str) else name_of(trainable)


def _keys(space: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Of nested dicts, joined by /; sorted."""
    keys: list[str] = []
    for key, value in space.items():
        name = f"{prefix}{key}"
        nested = isinstance(value, Mapping) and value and "grid_search" not in value
        keys += _keys(value, f"{name}/") if nested else [name]
    return sorted(keys)


def _run_config_of(trainable: Any) -> RunConfig:
    """A trainer's own, without its callbacks, which are of another kind."""
    own = getattr(trainable, "run_config", None)
    return replace(own, callbacks=None) if isinstance(own, RunConfig) else RunConfig()


def _write(path: str, data: bytes) -> None:
    with open(f"{path}.partial", "wb") as file:
        file.write(data)
    os.replace(f"{path}.partial", path)
