"""Runs the worker group of a training run, and starts it again after a failure."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import trireme
from trireme.train._backend import BackendConfig
from trireme.train._callback import TrainRunContext, UserCallback
from trireme.train._checkpoint import Checkpoint
from trireme.train._config import RunConfig, ScalingConfig
from trireme.train._errors import ControllerError, GroupFailure, WorkerGroupError
from trireme.train._group import WorkerGroup
from trireme.train._here import train_here
from trireme.train._placement import Placement, reserve
from trireme.train._result import Result
from trireme.train._session import Question, Report, RunInfo
from trireme.train._shards import DataConfig
from trireme.train._storage import RunFolder
from trireme.train._worker import Work

logger = logging.getLogger("trireme.train")


@dataclass
class Plan:
    """What a trainer wants run."""

    function: Callable[..., Any]
    config: dict[str, Any] | None
    backend: BackendConfig
    scaling: ScalingConfig
    run: RunConfig
    datasets: Mapping[str, Any]
    data_config: DataConfig
    resume_from: Checkpoint | None
    metadata: dict[str, Any]
    seed: int | None = None


class Controller:
    """One run, in the process that called `fit` (or in a Tune trial's).

    Parameters
    ----------
    plan
        What to run.
    name, path
        Of the run and its folder.
    on_report
        Called with each report that is new to the run: metrics of rank 0 and its checkpoint.
    trial_placement
        Where the workers go when a Tune trial reserved their places; else the run reserves its own.

    Threading: one thread.
    """

    def __init__(
        self,
        plan: Plan,
        name: str,
        path: str,
        on_report: Callable[[dict[str, Any], Checkpoint | None], None] | None = None,
        trial_placement: Placement | None = None,
    ) -> None:
        self._plan = plan
        self._name = name
        self._folder = RunFolder(path, plan.run.checkpoint_config)
        self._on_report = on_report
        self._trial_placement = trial_placement
        self._callbacks: list[UserCallback] = list(plan.run.callbacks or ())
        self._context = TrainRunContext(name, plan.run, path)
        self._forwarded = 0  # reports that on_report has seen
        self.failures = 0
        self.group_sizes: list[int] = []

    def run(self) -> Result:
        """Trains to the end.

        Raises
        ------
        WorkerGroupError
            A failure, and no restart left.
        ControllerError
            There is no room for the workers.
        """
        self._folder.roll_back()
        self._forwarded = self._folder.reports
        while True:
            try:
                returned = self._run_group()
                result = self._folder.result()
                result.return_value = returned
                return result
            except GroupFailure as error:
                self._take_failure(error)

    def result(self, error: Exception | None = None) -> Result:
        """What there is now."""
        return self._folder.result(error)

    def _take_failure(self, error: GroupFailure) -> None:
        self.failures += 1
        for callback in self._callbacks:
            callback.after_exception(self._context, error.worker_failures)
        limit = self._plan.run.failure_config.max_failures
        if limit != -1 and self.failures > limit:
            tries = f", after {limit} restart(s)" if limit else ""
            raise WorkerGroupError(f"{self._name}{tries}: {error}", error.worker_failures) from error.__cause__
        self._folder.roll_back()
        start = f"report {self._folder.reports}" if self._folder.latest else "the beginning"
        allowed = "no limit" if limit == -1 else f"of {limit}"
        logger.warning(
            "%s: %s; the group starts again from %s (restart %d, %s)",
            self._name,
            error.summary,
            start,
            self.failures,
            allowed,
        )

    def run_here(self) -> Result:
        """Trains to the end in this process. What the function raises is not caught, so that debuggers stop there; the group is
        not started again."""

        def take(event: Report | Question) -> Any:
            return self._folder.kept() if isinstance(event, Question) else self._take([event])

        self._folder.roll_back()
        returned = train_here(self._work(), self._plan.datasets, self._plan.data_config, take)
        result = self._folder.result()
        result.return_value = returned
        return result

    def _run_group(self) -> Any:
        plan = self._plan
        count, placement = self._reserve()
        group = WorkerGroup(plan.scaling, count, placement)
        try:
            group.start(self._work(), plan.datasets, plan.data_config, plan.run.worker_runtime_env)
            self.group_sizes.append(count)
            for reports in group.steps(self._folder.kept):
                self._take(reports)
            return group.returned
        finally:
            group.shut_down()

    def _work(self) -> Work:
        plan = self._plan
        run = RunInfo(
            experiment_name=plan.run.name or self._name,
            trial_name=self._name,
            trial_id=self._name,
            trial_dir=str(self._folder.path),
            storage_path=str(plan.run.storage_path),
            resources=plan.scaling.worker_resources(),
            metadata=plan.metadata,
        )
        checkpoint = self._folder.latest or plan.resume_from
        return Work(
            run=run,
            function=plan.function,
            config=plan.config,
            backend=plan.backend,
            checkpoint=checkpoint.path if checkpoint else None,
            first_report=self._folder.reports + 1,
            seed=plan.seed,
        )

    def _reserve(self) -> tuple[int, Placement]:
        if self._trial_placement is not None:
            return self._plan.scaling.max_workers, self._trial_placement
        try:
            return reserve(self._plan.scaling)
        except trireme.exceptions.RayError as error:
            raise ControllerError(f"{self._name}: no room for the workers: {error}", error) from error

    def _take(self, reports: list[Report]) -> None:
        stored = next((report.folder for report in reports if report.folder is not None), None)
        folder = os.path.relpath(stored, self._folder.path) if stored is not None else None
        metrics = reports[0].metrics
        checkpoint = self._folder.commit(metrics, folder)
        for callback in self._callbacks:
            callback.after_report(self._context, [report.metrics for report in reports], checkpoint)
        if self._on_report is not None and self._folder.reports > self._forwarded:
            self._forwarded = self._folder.reports
            self._on_report(metrics, checkpoint)
