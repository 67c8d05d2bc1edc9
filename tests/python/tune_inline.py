"""Trials in the test's own process, one call at a time: a search runs in the same order each time."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trireme.train import CheckpointConfig, FailureConfig
from trireme.tune.execution.experiment import Experiment
from trireme.tune.execution.trial_actor import TrialActor
from trireme.tune.execution.tune_controller import TuneController
from trireme.tune.experiment.trial import Trial
from trireme.tune.schedulers import FIFOScheduler
from trireme.tune.search import BasicVariantGenerator
from trireme.tune.stopper.stopper import make_stopper
from trireme.tune.trainable import Trainable
from trireme.tune.tune_config import ResumeConfig


class Ref:
    """What a call returned, or raised."""

    def __init__(self, value: Any) -> None:
        self.value = value


class InlineBackend:
    """Runs class trainables in this process. A search gets one event at a time, in the order of the calls.

    Parameters
    ----------
    cpus
        How many trials fit.
    """

    def __init__(self, cpus: float = 1) -> None:
        self.cpus = cpus
        self.running = self.most_running = self.started = 0
        self.killed: list[Any] = []

    def put(self, value: Any) -> Any:
        return Ref(value)

    def total_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}

    def node_resources(self) -> list[dict[str, float]]:
        return [self.total_resources()]

    def start(self, trainable: Ref, config: Any, info: Any, begin: Any, request: Any, runtime_env: Any = None) -> Any:
        self.started += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        begin = begin.value if isinstance(begin, Ref) else begin
        return TrialActor(trainable.value, dict(config), info, begin)

    def call(self, handle: Any, method: str, *args: Any) -> Ref:
        try:
            value = getattr(handle, method)(*[arg.value if isinstance(arg, Ref) else arg for arg in args])
            return Ref(pickle.loads(pickle.dumps(value)))  # as it was when the call returned
        except Exception as error:
            return Ref(error)

    def wait(self, refs: Any, timeout: float | None) -> list[Ref]:
        return list(refs)[:1]

    def get(self, ref: Ref) -> Any:
        if isinstance(ref.value, Exception):
            raise ref.value
        return ref.value

    def end(self, handle: Any, force: bool) -> None:
        self.running -= 1
        if force:
            self.killed.append(handle)


class Curve(Trainable):
    """Reports ``config["slope"] * iteration``; saves its iteration. Fails as ``config["fail_at"]`` says."""

    def setup(self, config: dict[str, Any]) -> None:
        self.at = 0
        self.seen: list[Any] = []

    def step(self) -> dict[str, Any]:
        self.at += 1
        if self.at == self.config.get("fail_at"):
            raise ValueError(f"fails at {self.at}")
        return {"score": self.config["slope"] * self.at, "at": self.at, "done": self.at >= self.config.get("steps", 10)}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"at": self.at}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.at = checkpoint["at"]


def search(
    path: Path | str,
    space: dict[str, Any],
    *,
    cpus: float = 1,
    trainable: Any = Curve,
    backend: InlineBackend | None = None,
    scheduler: Any = None,
    searcher: Any = None,
    stop: Any = None,
    num_samples: int = 1,
    callbacks: Sequence[Any] = (),
    metric: str | None = "score",
    mode: str | None = "max",
    resume: ResumeConfig | None = None,
    **options: Any,
) -> list[Trial]:
    """Runs a search to its end and returns its trials."""
    searcher = searcher or BasicVariantGenerator(random_state=1)
    scheduler = scheduler or FIFOScheduler()
    searcher.set_search_properties(metric, mode, space, num_samples=num_samples)
    assert scheduler.set_search_properties(metric, mode)
    options.setdefault("checkpoint", CheckpointConfig())
    options.setdefault("failure", FailureConfig())
    experiment = Experiment(
        trainable=trainable,
        trainable_name="Curve",
        space=space,
        name="test",
        storage_path=str(Path(path).parent),
        path=str(path),
        metric=metric,
        mode=mode,
        num_samples=num_samples,
        searcher=searcher,
        scheduler=scheduler,
        stopper=make_stopper(stop),
        callbacks=callbacks,
        change_directory=False,
        **options,
    )
    controller = TuneController(experiment, backend or InlineBackend(cpus))
    if resume is not None:
        controller.restore(resume)
    return controller.run()
