"""Ray's `util.collective`: groups of actors, tasks or drivers that reduce and exchange arrays without the object store.

Arrays are NumPy arrays, torch tensors, or anything with the buffer protocol or `__dlpack__`; contiguous, and used in place. They
lie in the host's memory, or on GPUs in groups of backend "nccl". Beyond Ray: `start_*` forms that return at once, `alltoall`, `ReduceOp.MEAN`, and groups whose results are the
same bit for bit.
"""

from trireme._lazy import attach

__getattr__, __dir__ = attach(
    __name__,
    {
        "Backend": "types",
        "BackendUnavailableError": "types",
        "CollectiveError": "types",
        "ReduceOp": "types",
        "create_collective_group": "groups",
        "destroy_collective_group": "groups",
        "get_collective_group_size": "groups",
        "get_group": "groups",
        "get_rank": "groups",
        "init_collective_group": "groups",
        "is_group_initialized": "groups",
        "allgather": "operations",
        "allreduce": "operations",
        "alltoall": "operations",
        "barrier": "operations",
        "broadcast": "operations",
        "recv": "operations",
        "reduce": "operations",
        "reducescatter": "operations",
        "send": "operations",
        "start_allgather": "operations",
        "start_allreduce": "operations",
        "start_alltoall": "operations",
        "start_barrier": "operations",
        "start_broadcast": "operations",
        "start_recv": "operations",
        "start_reduce": "operations",
        "start_reducescatter": "operations",
        "start_send": "operations",
    },
    ("groups", "operations", "types"),
)
