"""Trainables as classes."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Mapping
from typing import Any

from trireme.train._checkpoint import Checkpoint
from trireme.tune.execution.placement_groups import PlacementGroupFactory
from trireme.tune.session import current_trial

_STATE_FILE = ".trainable_state.pkl"
_DICT_FILE = "dict_checkpoint.pkl"


class Trainable:
    """A training that Tune drives step by step. Subclasses override `setup`, `step`, `save_checkpoint`,
    `load_checkpoint`, and perhaps `reset_config` and `cleanup`. It works without Tune, too: ``Mine({...}).train()``.

    Parameters
    ----------
    config
        Given to `setup`.

    Threading: one thread.
    """

    def __init__(
        self, config: Mapping[str, Any] | None = None, logger_creator: None = None, storage: None = None
    ) -> None:
        if logger_creator is not None or storage is not None:
            raise ValueError("Trainable: logger_creator and storage are not supported; use callbacks and RunConfig")
        self.config: dict[str, Any] = dict(config or {})
        self._iteration = 0
        self._time_total = 0.0
        self._timesteps_total: int | None = None
        self._start_time = time.time()
        self._trial_info = current_trial()  # None without Tune
        self._stopped = False
        self.setup(dict(self.config))

    # To be overridden.

    def setup(self, config: dict[str, Any]) -> None:
        """Prepares the training; called once, before the first step."""

    def step(self) -> dict[str, Any]:
        """One iteration; returns its metrics. ``{"done": True}`` ends the trial."""
        raise NotImplementedError(f"{type(self).__name__} must override step()")

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """Writes files into the folder; or returns a dict, which is pickled."""
        raise NotImplementedError(f"{type(self).__name__} must override save_checkpoint() to be saved")

    def load_checkpoint(self, checkpoint: dict[str, Any] | str) -> None:
        """Takes up what `save_checkpoint` returned, or the folder it wrote into."""
        raise NotImplementedError(f"{type(self).__name__} must override load_checkpoint() to be restored")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Changes the configuration of a living instance; True when that was possible (for ``reuse_actors``)."""
        return False

    def cleanup(self) -> None:
        """Gives up what `setup` took; called once, at the end."""

    def log_result(self, result: dict[str, Any]) -> None:
        """Sees each result in the trial's process."""

    @classmethod
    def default_resource_request(cls, config: Mapping[str, Any]) -> PlacementGroupFactory | None:
        """What a trial with this configuration reserves; None: 1 CPU."""
        return None

    # What is offered.

    def train(self) -> dict[str, Any]:
        """Runs one step.

        Returns
        -------
        dict
            Its metrics, and ``training_iteration``, ``time_this_iter_s``, ``time_total_s``, ``done``, ``config``.
        """
        start = time.monotonic()
        result = self.step()
        if not isinstance(result, Mapping):
            raise TypeError(
                f"{type(self).__name__}.step() returned {type(result).__name__}; it must return a dict of metrics"
            )
        result = dict(result)
        self._iteration += 1
        spent = result.get("time_this_iter_s", time.monotonic() - start)
        self._time_total += spent
        if "timesteps_this_iter" in result:
            self._timesteps_total = (self._timesteps_total or 0) + result["timesteps_this_iter"]
            result.setdefault("timesteps_total", self._timesteps_total)
        result.setdefault("done", False)
        result.setdefault("training_iteration", self._iteration)
        result.setdefault("time_this_iter_s", spent)
        result.setdefault("time_total_s", self._time_total)
        result.setdefault("config", self.config)
        self.log_result(result)
        return result

    def save(self, checkpoint_dir: str | None = None) -> Checkpoint:
        """Saves into a folder (a new temporary one when None).

        Returns
        -------
        Checkpoint
        """
        folder = checkpoint_dir or tempfile.mkdtemp(prefix="checkpoint_")
        os.makedirs(folder, exist_ok=True)
        content = self.save_checkpoint(folder)
        if isinstance(content, dict):
            with open(os.path.join(folder, _DICT_FILE), "wb") as file:
                pickle.dump(content, file, protocol=pickle.HIGHEST_PROTOCOL)
        elif content is not None and os.path.abspath(str(content)) != os.path.abspath(folder):
            raise TypeError(f"{type(self).__name__}.save_checkpoint() returned {content!r}; return None or a dict")
        with open(os.path.join(folder, _STATE_FILE), "wb") as file:
            pickle.dump(self._progress(), file)
        return Checkpoint(folder)

    def restore(self, checkpoint_path: str | Checkpoint) -> None:
        """Goes on from what `save` wrote."""
        folder = checkpoint_path.path if isinstance(checkpoint_path, Checkpoint) else os.fspath(checkpoint_path)
        state = os.path.join(folder, _STATE_FILE)
        if not os.path.exists(state):
            raise FileNotFoundError(f"{folder!r} is no checkpoint of a Trainable: it holds no {_STATE_FILE}")
        with open(state, "rb") as file:
            self._set_progress(pickle.load(file))
        packed = os.path.join(folder, _DICT_FILE)
        if os.path.exists(packed):
            with open(packed, "rb") as file:
                self.load_checkpoint(pickle.load(file))
        else:
            self.load_checkpoint(folder)

    def save_to_object(self) -> dict[str, Any]:
        """The checkpoint in memory: a dict as `save_checkpoint` returned it, or the bytes of the files it wrote."""
        folder = tempfile.mkdtemp(prefix="checkpoint_")
        try:
            content = self.save_checkpoint(folder)
            if isinstance(content, dict):
                return {"progress": self._progress(), "dict": content}
            return {"progress": self._progress(), "files": Checkpoint(folder).to_files()}
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def restore_from_object(self, packed: Mapping[str, Any]) -> None:
        """Goes on from what `save_to_object` gave (of this or another trial)."""
        self._set_progress(packed["progress"])
        if "dict" in packed:
            self.load_checkpoint(pickle.loads(pickle.dumps(packed["dict"])))  # own, writable arrays
            return
        folder = tempfile.mkdtemp(prefix=f"checkpoint_{uuid.uuid4().hex[:6]}")
        try:
            self.load_checkpoint(Checkpoint.from_files(packed["files"], folder).path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def reset(self, new_config: dict[str, Any]) -> bool:
        """Changes the configuration and begins to count anew; False when the class cannot."""
        if not self.reset_config(dict(new_config)):
            return False
        self.config = dict(new_config)
        self._iteration, self._time_total, self._timesteps_total = 0, 0.0, None
        self._start_time = time.time()
        return True

    def stop(self) -> None:
        """Ends the training; once."""
        if not self._stopped:
            self._stopped = True
            self.cleanup()

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return self.config

    @property
    def iteration(self) -> int:
        """Steps done."""
        return self._iteration

    @property
    def training_iteration(self) -> int:
        """Steps done."""
        return self._iteration

    @property
    def logdir(self) -> str | None:
        """The trial's folder; None without Tune."""
        return self._trial_info.trial_dir if self._trial_info else None

    @property
    def trial_id(self) -> str:
        """The trial's id; ``"default"`` without Tune."""
        return self._trial_info.trial_id if self._trial_info else "default"

    @property
    def trial_name(self) -> str:
        """The trial's name; ``"default"`` without Tune."""
        return self._trial_info.trial_name if self._trial_info else "default"

    @property
    def trial_resources(self) -> PlacementGroupFactory:
        """What the trial reserved; 1 CPU without Tune."""
        return self._trial_info.resources if self._trial_info else PlacementGroupFactory([{"CPU": 1}])

    def get_current_ip_port(self) -> tuple[str, None]:
        """This host; there is no port."""
        return socket.gethostname(), None

    def _progress(self) -> dict[str, Any]:
        return {"iteration": self._iteration, "time_total": self._time_total, "timesteps_total": self._timesteps_total}

    def _set_progress(self, progress: Mapping[str, Any]) -> None:
        self._iteration, self._time_total = progress["iteration"], progress["time_total"]
        self._timesteps_total = progress["timesteps_total"]
