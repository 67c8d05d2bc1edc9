"""What programs take from Ray's private `ray._raylet`: its classes of references and identities."""

from trireme._ids import ActorID, BaseID, JobID, NodeID, PlacementGroupID, TaskID, UniqueID, WorkerID
from trireme._object_ref import DynamicObjectRefGenerator, ObjectID, ObjectRef, ObjectRefGenerator

__all__ = [
    "ActorID",
    "BaseID",
    "DynamicObjectRefGenerator",
    "JobID",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "TaskID",
    "UniqueID",
    "WorkerID",
]
