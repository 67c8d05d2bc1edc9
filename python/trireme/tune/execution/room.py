"""Searches that run at the same time: what they hold together, and the loop that drives them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trireme.tune.experiment.trial import Trial

if TYPE_CHECKING:
    from trireme.tune.execution.processes import TrialProcesses
    from trireme.tune.execution.tune_controller import TuneController


class Room:
    """What the processes of some searches hold of the job, and the trials of all of them.

    Parameters
    ----------
    limit
        Trials that may run at a time.

    Threading: the thread that runs the searches.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.trials: list[Trial] = []  # as callbacks and reporters see them
        self.open = 0  # searches that have begun and not ended
        self._users: list[TrialProcesses] = []

    def enter(self, processes: TrialProcesses) -> None:
        """From now on what these hold counts."""
        self._users.append(processes)

    @property
    def full(self) -> bool:
        """Whether as many trials run as may."""
        return self.limit is not None and sum(user.active for user in self._users) >= self.limit

    @property
    def empty(self) -> bool:
        """Whether there is no process at all."""
        return not any(user.present for user in self._users)

    @property
    def weightless(self) -> int:
        """Trials that reserve nothing."""
        return sum(user.weightless for user in self._users)

    def held(self, name: str) -> float:
        """How much of a resource is taken."""
        return sum(user.held.get(name, 0.0) for user in self._users)


def run_together(searches: Sequence[TuneController]) -> None:
    """Runs searches to their ends: what is free goes to the first of them that has use for it. Ctrl-C ends all of them.

    Raises
    ------
    TuneError
        One of them cannot go on as it is defined; then all have ended.
    """
    running: list[TuneController] = []
    try:
        for search in searches:
            running.append(search)
            search.begin()
        while True:
            for search in running:
                search.fill()
            if over := [each for each in running if each.over()]:
                for search in over:
                    running.remove(search)
                    search.end()
                if not running:
                    break
                continue  # there may be more room now
            calls = [call for each in running for call in each.calls]
            if not calls:
                running[0].give_up()
            timeouts = [each.timeout() for each in running]
            timeout = min((each for each in timeouts if each is not None), default=None)
            if len(running) > 1:
                running[0].wait_for(calls, timeout)
                timeout = 0
            for search in running:
                search.turn(timeout)
    except KeyboardInterrupt:
        for search in running:
            search.interrupted()
    finally:
        with contextlib.ExitStack() as ends:
            for search in running:
                ends.callback(search.end)
    for search in searches:
        if search.fatal is not None:
            raise search.fatal
