"""Makes trials from what the searcher proposes."""

from __future__ import annotations

import uuid
from typing import Any

from trireme.tune.execution.experiment import Experiment
from trireme.tune.experiment.trial import Trial, flatten
from trireme.tune.search.searcher import FINISHED
from trireme.tune.search.variant_generator import find_unresolved
from trireme.tune.trainable.util import request_of


class TrialSource:
    """Asks the searcher for configurations, up to the number of samples.

    Threading: one thread.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._prefix = uuid.uuid4().hex[:5]
        self.created = 0
        self.ended = False
        self.waits = False  # the searcher proposed nothing when it was asked last, and no trial has ended since
        domains, grids = find_unresolved(experiment.space)
        self._varied = {"/".join(map(str, path)) for path, _ in domains + grids}
        self.limit = experiment.searcher.total(experiment.num_samples)

    def next(self) -> Trial | None:
        """The next trial; None when the searcher gives none now, or none any more (`ended`)."""
        if self.ended or (self.limit is not None and self.created >= self.limit):
            self.ended = True
            return None
        trial_id = f"{self._prefix}_{self.created:05d}"
        config = self._experiment.searcher.suggest(trial_id)
        self.waits = config is None
        if config is None:
            return None
        if config == FINISHED:
            self.ended = True
            return None
        return self._make(trial_id, dict(config))

    def _make(self, trial_id: str, config: dict[str, Any]) -> Trial:
        experiment = self._experiment
        flat = flatten(config)
        # Without a space of its own (a searcher brought it), every value may have been proposed.
        shown = {name: value for name, value in flat.items() if not self._varied or _inside(name, self._varied)}
        trial = Trial(
            trial_id,
            experiment.trainable_name,
            config,
            experiment.path,
            self.created,
            shown,
            request_of(experiment.trainable, config),
            experiment.checkpoint,
        )
        if experiment.trial_name_creator:
            trial.custom_trial_name = str(experiment.trial_name_creator(trial))
        custom = experiment.trial_dirname_creator(trial) if experiment.trial_dirname_creator else None
        if custom is not None and "/" in str(custom):
            raise ValueError(f"trial_dirname_creator returned {custom!r}; give the name of a folder, without '/'")
        trial.name_folder(str(custom) if custom is not None else None)
        self.created += 1
        if self.limit is not None and self.created >= self.limit:
            self.ended = True
        return trial


def _inside(name: str, varied: set[str]) -> bool:
    return any(name == path or name.startswith(path + "/") for path in varied)
