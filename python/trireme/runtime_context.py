"""Where the calling code runs."""

from __future__ import annotations

import functools
import json
import os
from typing import Any

from trireme import _init, _state
from trireme._ids import ActorID, JobID, NodeID, TaskID


class RuntimeContext:
    """Of this process and of what it runs now. All identities are hexadecimal texts."""

    def get_job_id(self) -> str:
        self._core()
        return _state.job["job_id"]

    def get_node_id(self) -> str:
        """The NodeID of this rank as in trireme.nodes()."""
        from trireme._nodes import node_id, own_row

        return node_id(own_row(self._core()))

    def get_rank(self) -> int:
        """The rank on which this runs."""
        return self._core().rank

    def get_worker_id(self) -> str:
        """Of this process; the driver has one too."""
        worker = _state.worker
        number = worker.core.worker_id if worker is not None else 0
        return f"{self._core().rank:08x}{number:016x}"

    def get_task_id(self) -> str | None:
        """Of the task or call that runs; None in the driver."""
        token = self._token()
        return f"{self.get_worker_id()}{token:016x}" if token else None

    def get_task_name(self) -> str | None:
        """Of the task or call that runs, as the state API lists it; None in the driver."""
        work = self._work()
        return work.name if work is not None else None

    def get_task_function_name(self) -> str | None:
        """Module and name of the function or method that runs; None in the driver."""
        work = self._work()
        return _name_of(work.function) if work is not None else None

    @staticmethod
    def _work() -> Any:
        worker = _state.worker
        return worker.present_work() if worker is not None else None

    def is_canceled(self) -> bool:
        """Whether somebody has cancelled the task or call that asks; for methods of plain and threaded actors, which nothing
        interrupts. Errors: RuntimeError in the driver and in async actors, whose calls asyncio cancels."""
        worker = _state.worker
        if worker is None:
            raise RuntimeError("is_canceled() is for tasks and calls of actors; this is the driver")
        return worker.is_cancelled()

    def get_session_name(self) -> str:
        """As `init().address_info["session_name"]`."""
        return self.get_job_id()

    def get_node_labels(self) -> dict[str, str]:
        """The labels of this rank."""
        from trireme._nodes import own_row

        return dict(own_row(self._core())["labels"])

    def get_actor_id(self) -> str | None:
        """None outside of actors."""
        worker = _state.worker
        if worker is None or not worker.is_actor:
            return None
        return self._own_handle(worker).id

    def get_actor_name(self) -> str | None:
        """The name that the actor was created under, "" for none; None outside of actors."""
        worker = _state.worker
        return worker.actor_spec["actor_name"] if worker is not None and worker.is_actor else None

    @property
    def job_id(self) -> JobID:
        """`get_job_id()` as an identity, as Ray's older programs want it."""
        return JobID.from_hex(self.get_job_id())

    @property
    def node_id(self) -> NodeID:
        """`get_node_id()` as an identity."""
        return NodeID.from_hex(self.get_node_id())

    @property
    def task_id(self) -> TaskID | None:
        """`get_task_id()` as an identity; None in the driver."""
        task = self.get_task_id()
        return TaskID.from_hex(task) if task is not None else None

    @property
    def actor_id(self) -> ActorID | None:
        """`get_actor_id()` as an identity; None outside of actors."""
        actor = self.get_actor_id()
        return ActorID.from_hex(actor) if actor is not None else None

    @property
    def namespace(self) -> str:
        worker = _state.worker
        if worker is not None and worker.is_actor:
            return worker.actor_spec["namespace"]
        self._core()
        return _state.job["namespace"]

    @property
    def current_actor(self) -> Any:
        """A handle on the actor in which this runs. Errors: RuntimeError outside of actors."""
        worker = _state.worker
        if worker is None or not worker.is_actor:
            raise RuntimeError("current_actor is for code that runs in an actor; this does not")
        from trireme._actor import ActorHandle

        spec = worker.actor_spec
        return ActorHandle(self._own_handle(worker), None, spec["descriptor"], spec["name"])

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor's process took the place of one that died."""
        worker = _state.worker
        return worker is not None and worker.restarted

    @property
    def gcs_address(self) -> str:
        return "local"

    def get_assigned_resources(self) -> dict[str, float]:
        """What the running task or actor holds; empty in the driver."""
        worker = _state.worker
        if worker is None:
            return {}
        if worker.is_actor:
            return dict(worker.actor_spec["resources"])
        work = self._work()
        return dict(work.resources) if work is not None else {}

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """The devices that the running task or actor holds, by kind."""
        return {"GPU": [str(device) for device in get_gpu_ids()]}

    def get_runtime_env_string(self) -> str:
        """The runtime environment as JSON."""
        from trireme import _runtime_env

        self._core()
        return json.dumps(_runtime_env.current(), sort_keys=True)

    @property
    def runtime_env(self) -> dict[str, Any]:
        from trireme import _runtime_env

        self._core()
        return dict(_runtime_env.current())

    def get_placement_group_id(self) -> str | None:
        worker = _state.worker
        group = worker.placement_group() if worker is not None else None
        return group.id.hex() if group is not None else None

    current_placement_group_id = property(get_placement_group_id)

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether tasks and actors that are made here go into this placement group unless they say otherwise; True in the
        driver, as in Ray."""
        return _state.worker is None or _state.captured_group is not None

    def get_resource_ids(self) -> dict[str, list[str]]:
        """Ray's older name of `get_accelerator_ids`."""
        return self.get_accelerator_ids()

    @property
    def worker_mode(self) -> str:
        return "worker" if _state.worker is not None else "driver"

    def get(self) -> dict[str, Any]:
        """The identities as a dict, without those that do not apply."""
        found = {
            "job_id": self.get_job_id(),
            "node_id": self.get_node_id(),
            "namespace": self.namespace,
            "task_id": self.get_task_id(),
            "actor_id": self.get_actor_id(),
        }
        return {name: value for name, value in found.items() if value is not None}

    @staticmethod
    def _own_handle(worker: Any) -> Any:
        handle = worker.core.actor()
        if handle is None:
            raise RuntimeError("this actor has no handle any more: it ends when its calls are done")
        return handle

    def _core(self) -> Any:
        return _init.core()

    def _token(self) -> int:
        worker = _state.worker
        if worker is None:
            return 0
        return worker.token()

    def __repr__(self) -> str:
        return f"RuntimeContext({', '.join(f'{name}={value}' for name, value in self.get().items())})"


def _name_of(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None) or ""
    code = getattr(function, "__code__", None)
    if module == "__main__" and code is not None:
        module = os.path.splitext(os.path.basename(code.co_filename))[0]  # what the program is called, as in Ray
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}.{name}" if module else name


_context = RuntimeContext()


def get_runtime_context() -> RuntimeContext:
    """The context of the calling code. Joins the job when that has not happened."""
    _init.core()
    return _context


def get_gpu_ids() -> list[int]:
    """The devices that the running task or actor holds, by their numbers on the rank; in the driver: all visible ones."""
    worker = _state.worker
    if worker is not None:
        return list(worker.gpu_ids)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [int(device) for device in visible.split(",") if device.strip().isdigit()]
    from trireme._nodes import own_row

    return list(range(int(own_row(_init.core())["total"].get("GPU", 0))))
