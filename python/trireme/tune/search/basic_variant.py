"""Random and grid search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trireme.tune.search.sample import generator
from trireme.tune.search.searcher import Searcher
from trireme.tune.search.variant_generator import (
    count_variants,
    find_unresolved,
    generate_variants,
    set_point,
)


class BasicVariantGenerator(Searcher):
    """All points of the grids, ``num_samples`` times, the rest drawn at random.

    Parameters
    ----------
    points_to_evaluate
        Configurations to try first; what a point leaves out is drawn or swept.
    max_concurrent
        At most so many trials at a time; 0: no limit.
    constant_grid_search
        True: drawn values stay the same over one sweep of the grid.
    random_state
        Seed or NumPy generator; None takes a seed from NumPy's global state. One seed gives one sequence.
    """

    def __init__(
        self,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        max_concurrent: int = 0,
        constant_grid_search: bool = False,
        random_state: Any = None,
    ) -> None:
        super().__init__()
        self._points = [dict(point) for point in points_to_evaluate or ()]
        self.max_concurrent = max_concurrent
        self._constant = constant_grid_search
        # A seed of its own, so that the sequence can be drawn again up to where a killed search was.
        self._seed = (
            int(random_state)
            if isinstance(random_state, (int, np.integer))
            else int(generator(random_state).integers(2**62))
        )
        self._space: dict[str, Any] | None = None
        self._num_samples = 1
        self._drawn = 0
        self._variants: Iterator[dict[str, Any]] | None = None
        self._live: set[str] = set()

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        self._space = dict(config)
        self._num_samples = spec.get("num_samples", 1)
        find_unresolved(self._space)
        return True

    def total(self, num_samples: int) -> int | None:
        if num_samples < 0 or self._space is None:
            return None
        per_sweep = count_variants(self._space)
        fixed = self._points[:num_samples]
        return sum(count_variants(set_point(self._space, point)) for point in fixed) + per_sweep * (
            num_samples - len(fixed)
        )

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.max_concurrent and len(self._live) >= self.max_concurrent:
            return None
        if self._variants is None:
            self._variants = self._sequence()
            for _ in range(self._drawn):
                next(self._variants)
        config = next(self._variants, None)
        if config is None:
            return self.FINISHED
        self._drawn += 1
        self._live.add(trial_id)
        return config

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        self._live.discard(trial_id)

    def get_state(self) -> dict[str, Any]:
        return {"seed": self._seed, "drawn": self._drawn, "live": set(self._live)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._seed, self._drawn = state["seed"], state["drawn"]
        self._variants, self._live = None, set(state["live"])

    def replay_suggest(self, trial_id: str) -> None:
        self._drawn += 1
        self._live.add(trial_id)

    def _sequence(self) -> Iterator[dict[str, Any]]:
        if self._space is None:
            raise RuntimeError("set_search_properties() comes before suggest()")
        rng = np.random.default_rng(self._seed)
        sweep = 0
        while self._num_samples < 0 or sweep < self._num_samples:
            space = set_point(self._space, self._points[sweep]) if sweep < len(self._points) else self._space
            for _, config in generate_variants(space, rng, self._constant):
                yield config
            sweep += 1
