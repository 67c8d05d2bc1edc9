"""What the job's tasks, actors, workers, nodes and placement groups are doing."""

from trireme.util.state.api import (
    get_actor,
    get_node,
    get_placement_group,
    get_task,
    get_worker,
    list_actors,
    list_nodes,
    list_placement_groups,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_tasks,
)
from trireme.util.state.schema import (
    ActorState,
    NodeState,
    PlacementGroupState,
    RayStateApiException,
    TaskState,
    WorkerState,
)

__all__ = [
    "ActorState",
    "NodeState",
    "PlacementGroupState",
    "RayStateApiException",
    "TaskState",
    "WorkerState",
    "get_actor",
    "get_node",
    "get_placement_group",
    "get_task",
    "get_worker",
    "list_actors",
    "list_nodes",
    "list_placement_groups",
    "list_tasks",
    "list_workers",
    "summarize_actors",
    "summarize_tasks",
]
