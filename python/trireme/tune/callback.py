"""Hooks into a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trireme.train._checkpoint import Checkpoint
    from trireme.tune.experiment.trial import Trial
    from trireme.tune.stopper import Stopper


class Callback:
    """Hooks into a search; override what is needed. An exception raised in one ends the search.

    `iteration` counts the turns of the search's loop; `trials` are all so far.

    Threading: the thread that runs the search.
    """

    def setup(
        self,
        stop: Stopper | None = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Before the first trial."""

    def on_step_begin(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:
        """Before something that happened is handled."""

    def on_step_end(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:
        """After it was."""

    def on_trial_start(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A trial starts, or starts again."""

    def on_trial_restore(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A trial goes on from a checkpoint."""

    def on_trial_save(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A trial saved a checkpoint."""

    def on_trial_result(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial reported."""

    def on_trial_complete(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A trial ended, by itself, by a stopper or by the scheduler."""

    def on_trial_recover(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A trial failed and will be started again."""

    def on_trial_error(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A trial failed for good."""

    def on_checkpoint(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        """A trial's checkpoint lies in its folder."""

    def on_experiment_end(self, trials: Sequence[Trial], **info: Any) -> None:
        """All is over."""

    def get_state(self) -> dict[str, Any] | None:
        """What `set_state` needs when the search is resumed; None: nothing."""
        return None

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from `get_state`."""


HOOKS = (
    "on_step_begin",
    "on_step_end",
    "on_trial_start",
    "on_trial_restore",
    "on_trial_save",
    "on_trial_result",
    "on_trial_complete",
    "on_trial_recover",
    "on_trial_error",
    "on_checkpoint",
    "on_experiment_end",
)


class CallbackList:
    """Several callbacks. A hook that none of them overrides costs nothing."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks holds {callback!r}; Tune takes trireme.tune.Callback objects")
        self.callbacks = list(callbacks)
        self._hooks: dict[str, list[Any]] = {
            hook: [
                getattr(callback, hook)
                for callback in callbacks
                if getattr(type(callback), hook) is not getattr(Callback, hook)
            ]
            for hook in HOOKS
        }

    def setup(self, **info: Any) -> None:
        """Calls `setup` of each."""
        for callback in self.callbacks:
            callback.setup(**info)

    def call(self, hook: str, **info: Any) -> None:
        """Calls one hook of each."""
        for function in self._hooks[hook]:
            function(**info)

    def get_state(self) -> dict[int, Any]:
        """States by position."""
        states = {index: callback.get_state() for index, callback in enumerate(self.callbacks)}
        return {index: state for index, state in states.items() if state is not None}

    def set_state(self, states: Mapping[int, Any]) -> None:
        """Hands states back by position."""
        for index, state in states.items():
            if index < len(self.callbacks):
                self.callbacks[index].set_state(state)
