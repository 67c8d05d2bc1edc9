"""Several trials of one configuration, judged by their mean."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from trireme.tune.search.searcher import Searcher
from trireme.tune.search.variant_generator import copy_space

TRIAL_INDEX = "__trial_index__"


class Repeater(Searcher):
    """Runs each configuration of another searcher `repeat` times and tells it the mean of the last results.

    Parameters
    ----------
    searcher
        Proposes; needs a metric.
    repeat
        Trials of each configuration.
    set_index
        True: a trial finds its number within the group in ``config["__trial_index__"]``.
    """

    def __init__(self, searcher: Searcher, repeat: int = 1, set_index: bool = True) -> None:
        if repeat < 1:
            raise ValueError(f"repeat is {repeat}; run each configuration at least once")
        super().__init__(searcher.metric, searcher.mode)
        self.searcher, self.repeat, self.set_index = searcher, repeat, set_index
        self._group_of: dict[str, str] = {}  # trial to the first trial of its group
        self._members: dict[str, list[str]] = {}
        self._scores: dict[str, dict[str, float | None]] = {}
        self._config: dict[str, Any] | None = None
        self._open: str | None = None  # the group that is being filled

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        taken = self.searcher.set_search_properties(metric, mode, config, **spec)
        self._metric, self._mode = self.searcher.metric or metric, self.searcher.mode or mode
        return taken

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._open is None:
            config = self.searcher.suggest(trial_id)
            if config is None or config == self.FINISHED:
                return config
            self._open, self._config = trial_id, dict(config)
            self._members[trial_id], self._scores[trial_id] = [], {}
        group = self._open
        members = self._members[group]
        members.append(trial_id)
        self._group_of[trial_id] = group
        config = copy_space(self._config)
        if self.set_index:
            config[TRIAL_INDEX] = len(members) - 1
        if len(members) == self.repeat:
            self._open = self._config = None
        return config

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        group = self._group_of.get(trial_id)
        if group is None:
            return
        scores = self._scores[group]
        scores[trial_id] = None if error or not result or self.metric is None else result.get(self.metric)
        if len(scores) < self.repeat:
            return
        valid = [score for score in scores.values() if score is not None]
        if valid:
            mean = sum(valid) / len(valid)
            self.searcher.on_trial_complete(group, {**(result or {}), self.metric: mean})
        else:
            self.searcher.on_trial_complete(group, None, error=True)

    def get_state(self) -> dict[str, Any]:
        own = {key: value for key, value in self.__dict__.items() if key != "searcher"}
        return {"inner": self.searcher.get_state(), "own": copy.deepcopy(own)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.searcher.set_state(state["inner"])
        self.__dict__.update(copy.deepcopy(state["own"]))
