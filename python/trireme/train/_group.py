"""One start of the worker group: places, ranks, and the events of its workers."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import trireme
from trireme.train._backend import WorkerFacts
from trireme.train._config import ScalingConfig
from trireme.train._errors import GroupFailure
from trireme.train._placement import Placement
from trireme.train._session import Meeting, Place, Question, Report
from trireme.train._shards import DataConfig
from trireme.train._worker import Ended, Order, Returned, Shard, TrainWorker, Work

logger = logging.getLogger("trireme.train")

Event = Report | Meeting | Question

# A worker whose reports the others have not matched yet is asked for no more than so many ahead.
LEAD_MAX = 4
# After the first failure: how long to wait for others, of which one may be the cause of the first.
CAUSE_TIMEOUT_S = 3.0
# How long, after a failure, a training function has to come to its next report and out of it, before its process is killed.
STOP_GRACE_VARIABLE, STOP_GRACE_S = "TRIREME_TRAIN_STOP_GRACE_S", 5.0
STOP_LEAST_S = 1.0


def places(facts: list[WorkerFacts]) -> list[Place]:
    """The ranks of workers in the given order, in which those of a node follow each other."""
    nodes = list(dict.fromkeys(fact.node_id for fact in facts))
    sizes = {node: sum(fact.node_id == node for fact in facts) for node in nodes}
    seen: dict[str, int] = dict.fromkeys(nodes, 0)
    found = []
    for rank, fact in enumerate(facts):
        local = seen[fact.node_id]
        seen[fact.node_id] += 1
        found.append(Place(rank, len(facts), local, sizes[fact.node_id], nodes.index(fact.node_id)))
    return found


class WorkerGroup:
    """The workers of one start, on one placement group.

    Threading: one thread.
    Errors:    `GroupFailure` with what each failed worker raised; what cannot be placed raises the runtime's error.
    Lifetime:  `shut_down` ends the workers and gives their resources back; idempotent. Training functions that still run
               are told so first.
    """

    def __init__(self, scaling: ScalingConfig, num_workers: int, placement: Placement) -> None:
        self._scaling = scaling
        self._placement = placement
        self.size = num_workers
        self._workers: list[Any] = []
        self._training = False
        self._failed_at: float | None = None
        self.returned: Any = None  # by the function of rank 0
        self.places: list[Place] = []

    def start(
        self, work: Work, datasets: Mapping[str, Any], data_config: DataConfig, runtime_env: Mapping[str, Any] | None
    ) -> None:
        """Creates the workers, gives them their ranks, and has them train."""
        try:
            self._create(runtime_env)
            facts = self._rank(trireme.get([worker.describe.remote() for worker in self._workers]))
            run_id = f"{work.run.trial_id}.{uuid.uuid4().hex[:8]}"
            meeting = trireme.get(self._workers[0].rendezvous.remote(work.backend, facts, run_id))
            shards = _shards(datasets, data_config, self.size)
            self._training = True
            trireme.get(
                [
                    worker.start.remote(Order(work, place, meeting, shards[place.world_rank]))
                    for worker, place in zip(self._workers, self.places)
                ]
            )
        except trireme.exceptions.RayError as error:
            raise GroupFailure(f"the workers did not start: {error}", {}) from error

    def _create(self, runtime_env: Mapping[str, Any] | None) -> None:
        resources = self._scaling.worker_resources()
        options: dict[str, Any] = {
            "max_concurrency": 2,  # stop() beside next()
            "num_cpus": resources.get("CPU", 0),
            "num_gpus": resources.get("GPU", 0),
            "resources": {k: v for k, v in resources.items() if k not in ("CPU", "GPU", "memory")},
        }
        if "memory" in resources:
            options["memory"] = resources["memory"]
        if runtime_env:
            options["runtime_env"] = dict(runtime_env)
        if self._scaling.accelerator_type is not None:
            options["accelerator_type"] = self._scaling.accelerator_type
        actor = trireme.remote(TrainWorker)
        self._workers = [
            actor.options(**options, scheduling_strategy=self._placement.strategy(index)).remote()
            for index in range(self.size)
        ]

    def _rank(self, facts: list[WorkerFacts]) -> list[WorkerFacts]:
        """Orders the workers so that those of a node follow each other, by their GPUs; returns the facts by rank."""
        first_of = {fact.node_id: index for index, fact in reversed(list(enumerate(facts)))}
        order = sorted(range(self.size), key=lambda i: (first_of[facts[i].node_id], facts[i].gpu_ids, i))
        self._workers = [self._workers[index] for index in order]
        facts = [facts[index] for index in order]
        self.places = places(facts)
        return facts

    def steps(self, answer: Callable[[], Any]) -> Iterator[list[Report]]:
        """The reports that all workers made, step by step, by rank; ends when all functions returned.

        Parameters
        ----------
        answer
            To a worker's `Question`; called when what it reported before has been handed out.

        Raises
        ------
        GroupFailure
            A worker died or raised, or the workers did not do the same.
        """
        waiting: dict[Any, int] = {worker.next.remote(): rank for rank, worker in enumerate(self._workers)}
        queued: list[list[Event]] = [[] for _ in self._workers]
        returned: set[int] = set()
        idle: set[int] = set()

        def go_on(rank: int, *answers: Any) -> None:
            idle.discard(rank)
            waiting[self._workers[rank].next.remote(*answers)] = rank

        def answer_questions() -> None:
            for rank, events in enumerate(queued):
                if events and isinstance(events[0], Question):
                    events.clear()  # it was the last: the worker waits for the answer
                    go_on(rank, answer())

        while waiting:
            ready, _ = trireme.wait(list(waiting), num_returns=1)
            for ref in ready:
                rank = waiting.pop(ref)
                event = self._event(ref, rank, waiting)
                if isinstance(event, Ended):
                    self.returned = event.returned if rank == 0 else self.returned
                elif isinstance(event, Returned):
                    returned.add(rank)
                    idle.add(rank)
                else:
                    queued[rank].append(event)
                    idle.add(rank)
            answer_questions()
            while all(queued):
                step = [events.pop(0) for events in queued]
                if all(isinstance(event, Report) for event in step):
                    yield step
                else:
                    self._check_alike(step)
                    for rank in range(self.size):
                        go_on(rank, [step[0].data])  # in a list, so that a reference arrives as it is
                answer_questions()
            stuck = {rank for rank in returned if not queued[rank]}
            if stuck and any(queued):
                self._raise_uneven(queued, stuck)
            for rank in [rank for rank in idle if _may_go_on(queued[rank])]:
                go_on(rank)
        self._training = False

    def _event(self, ref: Any, rank: int, waiting: Mapping[Any, int]) -> Event | Returned | Ended:
        try:
            event = trireme.get(ref)
        except trireme.exceptions.RayError as error:
            self._raise_failures({rank: _bare(error)}, waiting)
        if isinstance(event, Ended) and event.error is not None:
            event.error.remote_traceback = event.trace
            self._raise_failures({rank: event.error}, waiting)
        return event

    def _raise_failures(self, failures: dict[int, BaseException], waiting: Mapping[Any, int]) -> None:
        self._failed_at = time.monotonic()
        # A worker that dies makes the others fail in their collective, and which is heard of first is chance.
        ready, _ = (
            trireme.wait(list(waiting), num_returns=len(waiting), timeout=CAUSE_TIMEOUT_S) if waiting else ([], [])
        )
        for ref in ready:
            try:
                event = trireme.get(ref)
            except trireme.exceptions.RayError as error:
                failures[waiting[ref]] = _bare(error)
                continue
            if isinstance(event, Ended) and event.error is not None:
                event.error.remote_traceback = event.trace
                failures[waiting[ref]] = event.error
        died = {rank: error for rank, error in failures.items() if isinstance(error, trireme.exceptions.RayError)}
        rank, cause = min((died or failures).items())
        what = "died" if rank in died else f"raised {type(cause).__name__}: {_first_line(cause)}"
        details = getattr(cause, "remote_traceback", "") or str(cause)
        raise GroupFailure(f"worker {rank} of {self.size} {what}", failures, details.rstrip()) from cause

    def _raise_uneven(self, queued: list[list[Event]], stuck: set[int]) -> None:
        ahead = next(rank for rank, events in enumerate(queued) if events)
        behind = min(stuck)
        error = RuntimeError(
            f"worker {behind} returned, but worker {ahead} {queued[ahead][0]}, which worker {behind} did not: every "
            "worker must make the same calls of report() and train.collective"
        )
        raise GroupFailure(str(error), {behind: error})

    def _check_alike(self, step: list[Event]) -> None:
        def kind(event: Event) -> str:
            return "report" if isinstance(event, Report) else event.function

        other = next((rank for rank, event in enumerate(step) if kind(event) != kind(step[0])), None)
        if other is not None:
            error = RuntimeError(
                f"worker 0 {step[0]} where worker {other} {step[other]}: every worker must make the same calls of "
                "report() and train.collective in the same order"
            )
            raise GroupFailure(str(error), {other: error})

    def shut_down(self) -> None:
        """Ends the workers, whatever they do, and gives their resources back."""
        workers, self._workers = self._workers, []
        try:
            if self._training:
                _stop(workers, self._failed_at)
        finally:
            for worker in workers:
                _kill(worker)
            self._placement.release()


def _stop(workers: list[Any], failed_at: float | None) -> None:
    """Has the training functions end themselves, for a bounded time. Who has ended is killed at once, so that those who
    wait for it in a collective hear of it and end as well."""
    now, grace = time.monotonic(), float(os.environ.get(STOP_GRACE_VARIABLE, STOP_GRACE_S))
    # What was waited since the failure counts, but who waits in report() must hear of it.
    deadline = max(now + min(grace, STOP_LEAST_S), (failed_at or now) + grace)
    waiting = {worker.stop.remote(): rank for rank, worker in enumerate(workers)}
    while waiting:
        left = deadline - time.monotonic()
        ready, _ = trireme.wait(list(waiting), num_returns=1, timeout=max(0.0, left))
        if not ready:
            ranks = ", ".join(map(str, sorted(waiting.values())))
            logger.info("worker(s) %s came to no report() in time (%s) and are killed", ranks, STOP_GRACE_VARIABLE)
            return
        for ref in ready:
            _kill(workers[waiting.pop(ref)])


def _kill(worker: Any) -> None:
    with contextlib.suppress(trireme.exceptions.RayError):
        trireme.kill(worker)


def _may_go_on(events: list[Event]) -> bool:
    """Whether a worker with these events, which not all others have matched yet, is asked for more."""
    return len(events) < LEAD_MAX and all(isinstance(event, Report) for event in events)


def _shards(datasets: Mapping[str, Any], config: DataConfig, size: int) -> list[dict[str, Shard]]:
    """By rank: each dataset's part, or a reference to the whole of which the worker takes its part."""
    shards: list[dict[str, Shard]] = [{} for _ in range(size)]
    for name, data in datasets.items():
        split = config.splits(name)
        if hasattr(data, "streaming_split"):
            parts = data.streaming_split(size, equal=config.equal) if split else [data] * size
            for rank, part in enumerate(parts):
                shards[rank][name] = Shard(part, False, split, config.equal)
            continue
        ref = data if isinstance(data, trireme.ObjectRef) else trireme.put(data)
        for rank in range(size):
            shards[rank][name] = Shard(ref, True, split, config.equal)
    return shards


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


def _bare(error: BaseException) -> BaseException:
    """Without the frames of this process, whose variables would keep the workers' references for as long as the error."""
    return error.with_traceback(None)
