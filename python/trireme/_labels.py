"""Choosing a rank by its labels."""

from __future__ import annotations

import random
import re
from typing import Any

from trireme import _state
from trireme.exceptions import TaskUnschedulableError

Test = tuple[str, bool, tuple[str, ...]]  # label, whether it must match, values (none: must exist)

_LIST = re.compile(r"^(!?)in\((.*)\)$", re.DOTALL)


def parse_selector(selector: dict[str, str]) -> list[Test]:
    """`{"zone": "!in(a, b)"}` as tests."""
    tests: list[Test] = []
    for label, text in selector.items():
        match = _LIST.match(text)
        if match:
            values = tuple(part.strip() for part in match.group(2).split(",") if part.strip())
            if not values:
                raise ValueError(f"label_selector: {label}={text!r} lists no value; write {label}='in(a, b)'")
            tests.append((label, match.group(1) == "", values))
        elif text.startswith("!"):
            tests.append((label, False, (text[1:],)))
        else:
            tests.append((label, True, (text,)))
    return tests


def matches(labels: dict[str, str], tests: list[Test]) -> bool:
    for label, wanted, values in tests:
        held = label in labels and (not values or labels[label] in values)
        if held != wanted:
            return False
    return True


def place_by_selector(native: Any, selector: dict[str, str]) -> None:
    place(native, parse_selector(selector), [], f"label_selector={selector!r}")


def place(native: Any, hard: list[Test], soft: list[Test], what: str) -> None:
    """Sends it to a rank that passes the hard tests, one that passes the soft ones too if there is one, and has room now
    if one has. Errors: TaskUnschedulableError."""
    ranks = [rank for rank in _state.core.ranks() if rank["alive"]]
    fitting = [rank for rank in ranks if matches(rank["labels"], hard)]
    if not fitting:
        known = sorted({f"{k}={v}" for rank in ranks for k, v in rank["labels"].items()})
        raise TaskUnschedulableError(
            f"{what} matches none of the job's {len(ranks)} ranks; their labels are: {', '.join(known) or 'none'}. "
            f"Labels are given to init(labels={{...}}) or in TRIREME_LABELS."
        )
    fitting = [rank for rank in fitting if soft and matches(rank["labels"], soft)] or fitting
    demand = {"CPU": native.num_cpus, "GPU": native.num_gpus, "memory": native.memory, **native.resources}
    for pool in ("available", "total"):
        roomy = [r for r in fitting if all(r[pool].get(name, 0) >= amount for name, amount in demand.items() if amount)]
        if roomy:
            fitting = roomy
            break
    native.rank = random.choice(fitting)["rank"]
    native.soft = False
