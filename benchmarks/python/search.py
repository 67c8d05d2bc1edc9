"""What a hyper-parameter search costs beside its trainings, for Ray Tune and for Trireme's.

usage: search.py ray|trireme trial|report[,...] [trials=4] [reports=500]

The trainings do nothing. A small search is taken from a large one, so that what only the start and the end of a search cost
drops out. Both write their loggers' files (JSON, CSV, TensorBoard), and print no table.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from typing import Any

import runtime


class Search:
    def __init__(self, name: str, trials: int, reports: int) -> None:
        self.tune = importlib.import_module(f"{name}.tune")
        self.trials = trials
        self.reports = reports
        self.seconds(1, 1)  # what the first search of a process does once

    def seconds(self, trials: int, reports: int) -> float:
        """Of a search with so many trials, as many at a time as there are cores, each with so many reports."""
        tune = self.tune

        def train(config: dict[str, Any]) -> None:
            for step in range(config["reports"]):
                tune.report({"loss": config["x"] * step})

        with tempfile.TemporaryDirectory() as folder:
            tuner = tune.Tuner(
                train,
                param_space={"x": tune.uniform(0, 1), "reports": reports},
                tune_config=tune.TuneConfig(
                    metric="loss", mode="min", num_samples=trials, max_concurrent_trials=runtime.cores()
                ),
                run_config=tune.RunConfig(name="search", storage_path=folder, verbose=0),
            )
            begin = time.perf_counter()
            results = tuner.fit()
            took = time.perf_counter() - begin
            ended = [result.metrics["training_iteration"] for result in results if result.error is None]
        if ended != [reports] * trials:
            raise AssertionError(f"{trials} trials with {reports} reports each ended after {ended}")
        return took


def trial(search: Search) -> float:
    few = runtime.cores()
    return 1e3 * (search.seconds(few + search.trials, 1) - search.seconds(few, 1)) / search.trials


def report(search: Search) -> float:
    few = 10
    return 1e6 * (search.seconds(1, few + search.reports) - search.seconds(1, few)) / search.reports


CASES: dict[str, tuple[str, runtime.Case]] = {"trial": ("ms/trial", trial), "report": ("us/report", report)}


def main() -> int:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    name, wanted, *words = sys.argv[1:]
    chosen = runtime.options(words, {"trials": 4, "reports": 500})
    ray = runtime.start(name)
    status = runtime.run_cases(wanted, CASES, Search(name, chosen["trials"], chosen["reports"]))
    ray.shutdown()
    return status


if __name__ == "__main__":
    sys.exit(main())
