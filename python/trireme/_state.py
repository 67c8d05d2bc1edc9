"""What this process is in the job. Read at every call, so plain module attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trireme.util.placement_group import PlacementGroup

#: `RankCore` in the driver, `WorkerCore` in a worker; None before init() and after shutdown().
core: Any = None
#: Counts sessions. What is exported in one (functions, classes) is unknown in the next.
session: int = 0
#: The worker's own state (`trireme._worker.Worker`); None in the driver.
worker: Any = None
#: init(local_mode=True): calls run here, see trireme._local.
local: bool = False
#: The placement group whose children are captured by it too; None elsewhere.
captured_group: PlacementGroup | None = None
#: The job's settings, as given to init() on rank 0. In a worker: loaded before its first task.
job: dict[str, Any] = {}
