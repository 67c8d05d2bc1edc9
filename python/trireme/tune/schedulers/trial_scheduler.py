"""What decides, at each report, whether a trial goes on."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trireme.train._result import metric_of

if TYPE_CHECKING:
    from trireme.tune.execution.tune_controller import TuneController
    from trireme.tune.experiment.trial import Trial


class TrialScheduler:
    """Decides about trials. Base of all schedulers.

    Parameters
    ----------
    metric
        Reported value that is judged; None: what `TuneConfig` says.
    mode
        ``"max"`` or ``"min"``.

    Notes
    -----
    Threading: all methods are called from the thread that runs the search. What they get as `controller` offers
    ``get_trials()``, ``get_live_trials()``, ``pause_trial``, ``stop_trial``, ``unpause_trial``, ``total_resources()`` and
    ``search_ended``.
    """

    CONTINUE = "CONTINUE"
    PAUSE = "PAUSE"
    STOP = "STOP"
    NOOP = "NOOP"

    checkpoints_in_object_store = False
    """True: what trials save is also held in the object store, so that others go on from it without a disk."""

    changes_resources = False
    """True: trials do not all reserve the same; then `base_trial_resources` is what new ones do, if that is known."""
    base_trial_resources: Any = None

    def __init__(self, metric: str | None = None, mode: str | None = None) -> None:
        if mode not in (None, "max", "min"):
            raise ValueError(f"mode is {mode!r}; give 'max' or 'min'")
        self._metric, self._mode = metric, mode

    @property
    def metric(self) -> str | None:
        """What is judged."""
        return self._metric

    @property
    def mode(self) -> str | None:
        """``"max"`` or ``"min"``."""
        return self._mode

    @property
    def needs_metric(self) -> bool:
        """Whether reports must hold the metric."""
        return True

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Tells the scheduler what `TuneConfig` says.

        Returns
        -------
        bool
            False: the scheduler was made with a different metric or mode.
        """
        if (metric and self._metric and metric != self._metric) or (mode and self._mode and mode != self._mode):
            return False
        self._metric, self._mode = self._metric or metric, self._mode or mode
        return True

    def score(self, result: Mapping[str, Any]) -> float:
        """The metric of a report, turned so that more is better."""
        value = metric_of(result, self._metric)
        return float(value) if self._mode != "min" else -float(value)

    def on_trial_add(self, controller: TuneController, trial: Trial) -> None:
        """A trial was created."""

    def on_trial_result(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> str:
        """A trial reported; says what becomes of it. NOOP: the scheduler itself has told the controller."""
        return self.CONTINUE

    def on_trial_complete(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> None:
        """A trial ended, by itself or by a stopper."""

    def on_trial_error(self, controller: TuneController, trial: Trial) -> None:
        """A trial failed for good."""

    def on_trial_remove(self, controller: TuneController, trial: Trial) -> None:
        """A trial was stopped while it waited or was paused."""

    def choose_trial_to_run(self, controller: TuneController) -> Trial | None:
        """The next trial to start, of those that are PENDING or PAUSED; None: none of them now."""
        trials = controller.waiting_trials()
        return trials[0] if trials else None

    def on_trial_start(self, trial: Trial) -> None:
        """A trial starts, or goes on in a new process."""

    def on_search_end(self) -> None:
        """The search is over; what was held of it is given up."""

    def replay_result(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """A report that came after the state that was restored; decisions about it were carried out already."""

    def debug_string(self) -> str:
        """A line for the progress table."""
        return f"Using {type(self).__name__}"

    def get_state(self) -> dict[str, Any]:
        """All that `set_state` needs; must be picklable and refer to trials by id."""
        return dict(self.__dict__)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from `get_state`."""
        self.__dict__.update(state)

    def save(self, checkpoint_path: str) -> None:
        """Writes the state into a file."""
        with open(checkpoint_path, "wb") as file:
            pickle.dump(self.get_state(), file)

    def restore(self, checkpoint_path: str) -> None:
        """Reads what `save` wrote."""
        with open(checkpoint_path, "rb") as file:
            self.set_state(pickle.load(file))


class FIFOScheduler(TrialScheduler):
    """Every trial runs to its end, in the order of creation."""

    def __init__(self) -> None:
        super().__init__()

    @property
    def needs_metric(self) -> bool:
        return False

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        self._metric, self._mode = metric, mode
        return True


def time_of(result: Mapping[str, Any], time_attr: str) -> float:
    """How far a trial is.

    Raises
    ------
    TuneError
        The report does not say; says what it holds.
    """
    from trireme.tune.error import TuneError

    try:
        return metric_of(result, time_attr)
    except KeyError as missing:
        raise TuneError(f"the scheduler's time_attr is {time_attr!r}, but {missing.args[0]}") from None
