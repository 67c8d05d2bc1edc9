"""Ray's `util`: pools, queues, metrics, placement groups and what else programs build on tasks and actors."""

from trireme._lazy import attach

# `util.placement_group` is the function, although a submodule has that name: it must be bound after the submodule was.
from trireme.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

__all__ = [  # noqa: RUF022 - the names that are there at once; the others are listed by dir()
    "PlacementGroup",
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ActorPool": "actor_pool",
        "Executor": "executor",
        "as_completed": "iter",
        "map_unordered": "iter",
        "deregister_serializer": "serialization",
        "register_serializer": "serialization",
        "inspect_serializability": "check_serialize",
        "disable_log_once_globally": "debug",
        "enable_periodic_logging": "debug",
        "log_once": "debug",
        "get_node_ip_address": "node",
        "list_named_actors": "node",
    },
    (
        "accelerators",
        "actor_pool",
        "annotations",
        "check_serialize",
        "collective",
        "debug",
        "executor",
        "iter",
        "joblib",
        "metrics",
        "multiprocessing",
        "queue",
        "rpdb",
        "scheduling_strategies",
        "serialization",
        "state",
        "tqdm",
    ),
)
