"""How the workers of a group find each other: what a backend does before and after the training function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trireme.train._session import Session


@dataclass(frozen=True)
class WorkerFacts:
    """What a worker says of itself before it gets its rank."""

    node_id: str
    host: str
    address: str  # by which workers of other nodes reach this node
    pid: int
    gpu_ids: tuple[int, ...]


class BackendConfig:
    """No communication between the workers: the base of the backends, sent to the workers and run there."""

    def check(self) -> None:
        """In the process that runs the trainer, before any worker starts. Raises what the user must mend."""

    def rendezvous(self, facts: list[WorkerFacts], run_id: str) -> Any:
        """On rank 0, with the facts of all workers by rank: what all need to find each other (plain data)."""

    def join(self, session: Session, meeting: Any) -> None:
        """On each worker, in its training thread, before the training function. `meeting`: of rank 0's rendezvous."""

    def leave(self, session: Session) -> None:
        """On each worker, after its training function returned."""


@dataclass
class CollectiveConfig(BackendConfig):
    """A group of `trireme.util.collective` for workers that train with NumPy; see `trireme.train.DataParallel`.

    Parameters
    ----------
    backend
        Of the group, as in ``init_collective_group``.
    fixed_order
        Reductions combine the workers in the order of their ranks: the same bits in every run with as many workers.
    timeout_s
        Seconds until a collective, and meeting the others, fails.
    """

    backend: str = "auto"
    fixed_order: bool = True
    timeout_s: float = 1800

    def rendezvous(self, facts: list[WorkerFacts], run_id: str) -> str:
        """The name of the group."""
        return f"train.{run_id}"

    def join(self, session: Session, meeting: str) -> None:
        """Joins the group, unless there is but one worker."""
        session.state["group"] = None
        if session.place.world_size == 1:
            return
        from trireme.util import collective

        collective.init_collective_group(
            session.place.world_size,
            session.place.world_rank,
            backend=self.backend,
            group_name=meeting,
            timeout=self.timeout_s,
            fixed_order=self.fixed_order,
        )
        session.state["group"] = meeting

    def leave(self, session: Session) -> None:
        """Leaves the group."""
        if session.state.get("group") is not None:
            from trireme.util import collective

            collective.destroy_collective_group(session.state["group"])
