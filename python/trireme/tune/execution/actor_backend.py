"""Trials as actors of the runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from trireme.tune.execution.placement_groups import PlacementGroupFactory
from trireme.tune.execution.trial_actor import TrialActor


class ActorHandle:
    """A trial's process, and the placement group that it holds."""

    def __init__(self, actor: Any, group: Any) -> None:
        self.actor, self.group = actor, group


class ActorBackend:
    """What the search needs of the runtime: processes for trials, calls, waiting.

    Threading: one thread.
    """

    def __init__(self) -> None:
        import trireme

        if not trireme.is_initialized():
            trireme.init()
        self._api = trireme
        self._class = trireme.remote(TrialActor)

    def put(self, value: Any) -> Any:
        """Into the object store."""
        return self._api.put(value)

    def total_resources(self) -> dict[str, float]:
        """What the job has."""
        return self._api.cluster_resources()

    def node_resources(self) -> list[dict[str, float]]:
        """What each rank has that lives."""
        return [node["Resources"] for node in self._api.nodes() if node["Alive"]]

    def start(
        self,
        trainable: Any,
        config: Any,
        info: Any,
        begin: Any,
        request: PlacementGroupFactory,
        runtime_env: Any = None,
    ) -> ActorHandle:
        """Starts a trial's process; returns at once, also when it must wait for resources."""
        head = dict(request.bundles[0])
        options: dict[str, Any] = {"num_cpus": head.pop("CPU", 0), "num_gpus": head.pop("GPU", 0)}
        memory = head.pop("memory", 0)
        if memory:
            options["memory"] = int(memory)
        if head:
            options["resources"] = head
        if runtime_env:
            options["runtime_env"] = dict(runtime_env)
        group = None
        if len(request.bundles) > 1:
            from trireme.util import placement_group
            from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

            bundles = request.bundles[1:] if request.head_bundle_is_empty else request.bundles
            group = placement_group([dict(bundle) for bundle in bundles], strategy=request.strategy)
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                group,
                placement_group_bundle_index=-1 if request.head_bundle_is_empty else 0,
                placement_group_capture_child_tasks=True,
            )
        return ActorHandle(self._class.options(**options).remote(trainable, config, info, begin), group)

    def call(self, handle: ActorHandle, method: str, *args: Any) -> Any:
        """Calls a method; returns a reference to what it will return."""
        return getattr(handle.actor, method).remote(*args)

    def wait(self, refs: Sequence[Any], timeout: float | None) -> list[Any]:
        """Blocks until one is ready or the time is up; returns all that are ready."""
        refs = list(refs)
        ready, _ = self._api.wait(refs, num_returns=len(refs), timeout=0)
        if not ready and timeout != 0:
            ready, _ = self._api.wait(refs, num_returns=1, timeout=timeout)
        return ready

    def get(self, ref: Any) -> Any:
        """The value; raises what the call raised."""
        return self._api.get(ref)

    def end(self, handle: ActorHandle, force: bool) -> None:
        """Gives the process up, and what it reserved. `force`: kills it."""
        if force:
            self._api.kill(handle.actor)
        handle.actor = None
        if handle.group is not None:
            from trireme.util import remove_placement_group

            remove_placement_group(handle.group)
            handle.group = None

    @staticmethod
    def working_directory() -> str:
        """Of this process."""
        return os.getcwd()
