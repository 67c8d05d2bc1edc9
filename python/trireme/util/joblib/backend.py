"""The joblib backend: batches of calls run in a `trireme.util.multiprocessing.Pool`."""

from __future__ import annotations

import os
from typing import Any

from joblib._parallel_backends import MultiprocessingBackend

import trireme
from trireme.util.multiprocessing import Pool


class TriremeBackend(MultiprocessingBackend):
    """Joblib's multiprocessing backend with the job's actors as processes. `n_jobs=-1` means every CPU of the job.

    Parameters
    ----------
    ray_remote_args
        Options of the actors, given as `parallel_backend("trireme", ray_remote_args={...})`.
    """

    def __init__(self, *args: Any, ray_remote_args: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self._ray_remote_args = ray_remote_args
        super().__init__(*args, **kwargs)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many processes `n_jobs` means; negative ones count down from the job's CPUs."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        if not trireme.is_initialized():
            trireme.init(address=os.environ.get("RAY_ADDRESS"))
        cpus = int(trireme.cluster_resources().get("CPU", 1))
        return max(cpus + 1 + n_jobs, 1)

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: str | None = None, require: str | None = None, **_: Any
    ) -> int:
        """Start the pool; joblib calls this at the start of each `Parallel`."""
        if require == "sharedmem":
            raise ValueError("the trireme backend runs in other processes and has no shared memory to offer")
        n_jobs = self.effective_n_jobs(n_jobs)
        self._pool = Pool(n_jobs, ray_remote_args=self._ray_remote_args)
        self.parallel = parallel
        return n_jobs
