"""A bound on the trials that a searcher has in flight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trireme.tune.search.searcher import Searcher


class ConcurrencyLimiter(Searcher):
    """Asks another searcher only while fewer than `max_concurrent` of its trials run.

    Parameters
    ----------
    searcher
        Proposes.
    max_concurrent
        At most so many at a time.
    batch
        True: results are handed on when all trials of a batch ended, then the next batch starts.
    """

    def __init__(self, searcher: Searcher, max_concurrent: int, batch: bool = False) -> None:
        if not isinstance(searcher, Searcher):
            raise TypeError(f"ConcurrencyLimiter needs a Searcher, not {type(searcher).__name__}")
        if max_concurrent < 1:
            raise ValueError(f"max_concurrent is {max_concurrent}; allow at least 1 trial")
        super().__init__(searcher.metric, searcher.mode)
        self.searcher, self.max_concurrent, self.batch = searcher, max_concurrent, batch
        self._live: set[str] = set()
        self._ended: dict[str, tuple[Mapping[str, Any] | None, bool]] = {}
        self._inner_limits = searcher.set_max_concurrency(max_concurrent)

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        taken = self.searcher.set_search_properties(metric, mode, config, **spec)
        self._metric, self._mode = self.searcher.metric, self.searcher.mode
        return taken

    def total(self, num_samples: int) -> int | None:
        return self.searcher.total(num_samples)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._inner_limits and len(self._live) >= self.max_concurrent:
            return None
        config = self.searcher.suggest(trial_id)
        if config is not None and config != self.FINISHED:
            self._live.add(trial_id)
        return config

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        if trial_id not in self._live:
            return
        if not self.batch:
            self._live.discard(trial_id)
            self.searcher.on_trial_complete(trial_id, result, error)
            return
        self._ended[trial_id] = (result, error)
        if len(self._ended) == len(self._live):  # in the order of their ends
            for ended, (last, failed) in self._ended.items():
                self.searcher.on_trial_complete(ended, last, failed)
            self._ended.clear()
            self._live.clear()

    def replay_suggest(self, trial_id: str) -> None:
        self.searcher.replay_suggest(trial_id)
        self._live.add(trial_id)

    def get_state(self) -> dict[str, Any]:
        return {"inner": self.searcher.get_state(), "live": set(self._live), "ended": dict(self._ended)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.searcher.set_state(state["inner"])
        self._live, self._ended = set(state["live"]), dict(state["ended"])
