"""What is kept of a trial's error."""

from __future__ import annotations

import os
import pickle
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trireme.tune.experiment.trial import Trial


def describe(error: Exception) -> Exception:
    """The error itself when it can be pickled, else one with its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def last_line(error: BaseException) -> str:
    """What an error says, without its traceback."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else repr(error)


def write_error(trial: Trial) -> None:
    """Writes ``error.txt`` and ``error.pkl`` into the trial's folder."""
    error = trial.error
    if error is None:
        return
    os.makedirs(trial.path, exist_ok=True)
    text = getattr(error, "traceback_str", "") or "".join(
        traceback.format_exception(type(error), error, error.__traceback__)
    )
    with open(os.path.join(trial.path, "error.txt"), "a", encoding="utf-8") as file:
        file.write(f"Failure {trial.num_failures}: {type(error).__name__}: {error}\n{text}\n")
    with open(os.path.join(trial.path, "error.pkl"), "wb") as file:
        pickle.dump(describe(error), file)


def is_placement_error(error: BaseException) -> bool:
    """Whether the runtime says that what a trial asks for can never be had."""
    try:
        from trireme.exceptions import ActorUnschedulableError, TaskUnschedulableError
    except ImportError:
        return False
    return isinstance(error, (ActorUnschedulableError, TaskUnschedulableError))
