"""A training with the configurations that population based training found, one after the other."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trireme.tune.error import TuneError
from trireme.tune.schedulers.trial_scheduler import TrialScheduler

if TYPE_CHECKING:
    from trireme.tune.execution.tune_controller import TuneController
    from trireme.tune.experiment.trial import Trial


class PopulationBasedTrainingReplay(TrialScheduler):
    """Runs one trial through the configurations of a trial of `PopulationBasedTraining`, each from the iteration on in which
    that one, or whom it went on from, got it. What population based training finds is such a sequence.

    Functions change at the first checkpoint that they report from that iteration on.

    Parameters
    ----------
    policy_file
        ``pbt_policy_<trial>.txt`` in the folder of that search (`log_config`).

    Errors: TuneError for a file that is none, and for a search with more than one trial.
    """

    checkpoints_in_object_store = True

    def __init__(self, policy_file: str | os.PathLike[str]) -> None:
        super().__init__()
        path = os.path.expanduser(os.fspath(policy_file))
        self._config, self._policy = _read(path)
        self._trial_id: str | None = None
        self._done = 0  # of the policy's changes

    @property
    def config(self) -> dict[str, Any]:
        """What the trial begins with."""
        return dict(self._config)

    @property
    def needs_metric(self) -> bool:
        return False

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        self._metric, self._mode = metric, mode
        return True

    def on_trial_add(self, controller: TuneController, trial: Trial) -> None:
        if self._trial_id not in (None, trial.trial_id):
            raise TuneError("PopulationBasedTrainingReplay runs one trial; leave num_samples at 1, and grids out of param_space")
        if self._trial_id is None:
            self._trial_id = trial.trial_id
            trial.set_config({**trial.config, **self._config})

    def on_trial_result(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> str:
        due = self._done
        while due < len(self._policy) and self._policy[due][0] <= result["training_iteration"]:
            due += 1
        if due == self._done or not controller.is_saved(trial):
            return self.CONTINUE
        checkpoint = controller.checkpoint_in_store(trial)
        assert checkpoint is not None
        iteration, config = self._policy[due - 1]
        self._done = due
        tag = f"{trial.experiment_tag.split('@perturbed')[0]}@perturbed[{iteration}]"
        controller.exploit(trial, trial, checkpoint, {**trial.config, **config}, tag)
        return self.NOOP

    def get_state(self) -> dict[str, Any]:
        return {"trial_id": self._trial_id, "done": self._done}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._trial_id, self._done = state["trial_id"], state["done"]

    def debug_string(self) -> str:
        return f"Using PopulationBasedTrainingReplay: {self._done} of {len(self._policy)} changes made"


def _read(path: str) -> tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]:
    """The first configuration, and from which iteration on there is which other."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file if line.strip()]
        # Who changed, from whom, their iterations, the configuration of the latter and the new one; what was done.
        changes = [(line[3], line[4], line[5]) for line in lines]
        good = all(isinstance(at, int) and isinstance(old, dict) and isinstance(new, dict) for at, old, new in changes)
    except FileNotFoundError:
        raise TuneError(f"PopulationBasedTrainingReplay: there is no file {path!r}") from None
    except (ValueError, TypeError, LookupError):
        good = False
    if not good or not changes:
        raise TuneError(f"PopulationBasedTrainingReplay: {path!r} is no pbt_policy_<trial>.txt of a population based training")
    return changes[0][1], [(at, new) for at, _, new in changes]
