"""What proposes configurations."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

FINISHED = "FINISHED"


class Searcher:
    """Proposes configurations and learns from results. Base of all searchers.

    Parameters
    ----------
    metric
        Reported value to optimise; None: what `TuneConfig` says.
    mode
        ``"max"`` or ``"min"``.

    Notes
    -----
    Threading: all methods are called from the thread that runs the search.
    """

    FINISHED = FINISHED

    def __init__(self, metric: str | None = None, mode: str | None = None) -> None:
        if mode not in (None, "max", "min") and not isinstance(mode, (list, tuple)):
            raise ValueError(f"mode is {mode!r}; give 'max' or 'min'")
        self._metric, self._mode = metric, mode

    @property
    def metric(self) -> Any:
        """What is optimised."""
        return self._metric

    @property
    def mode(self) -> Any:
        """``"max"`` or ``"min"``."""
        return self._mode

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        """Tells the searcher what `TuneConfig` and ``param_space`` say, before the first `suggest`.

        Returns
        -------
        bool
            False: the searcher has its own and takes no other.
        """
        return False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next configuration; None: not now, ask again after some result; `FINISHED`: there are no more."""
        raise NotImplementedError

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A trial reported."""

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """A trial ended; `result` is its last report."""

    def add_evaluated_point(
        self,
        parameters: Mapping[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: Sequence[float] | None = None,
    ) -> None:
        """Tells the searcher of a result from elsewhere."""
        raise NotImplementedError(f"{type(self).__name__} does not take points from elsewhere")

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Limits the trials in flight; True when the searcher does so itself."""
        return False

    def total(self, num_samples: int) -> int | None:
        """Trials that `num_samples` makes; None when not known beforehand."""
        return None if num_samples < 0 else num_samples

    def get_state(self) -> dict[str, Any]:
        """All that `set_state` needs to go on; must be picklable."""
        return dict(self.__dict__)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from `get_state`."""
        self.__dict__.update(state)

    def replay_suggest(self, trial_id: str) -> None:
        """A configuration was proposed after the state that was restored was taken. Searchers whose proposals can be
        repeated step over it; others know nothing of that trial."""

    def save(self, checkpoint_path: str | os.PathLike[str]) -> None:
        """Writes the state into a file."""
        with open(checkpoint_path, "wb") as file:
            pickle.dump(self.get_state(), file)

    def restore(self, checkpoint_path: str | os.PathLike[str]) -> None:
        """Reads what `save` wrote."""
        with open(checkpoint_path, "rb") as file:
            self.set_state(pickle.load(file))
