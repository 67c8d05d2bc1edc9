"""Choosing a rank by its labels."""

from __future__ import annotations

import re
from typing import Any

from trireme import _state

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
    """Only on ranks that the selector matches, now or when such a rank joins."""
    native.labels = [*native.labels, *parse_selector(selector)]


def place(native: Any, hard: list[Test], soft: list[Test]) -> None:
    """Only on ranks that pass the hard tests; while a rank passes the soft ones too, on such a rank."""
    both = [*hard, *soft]
    preferred = soft and any(rank["alive"] and matches(rank["labels"], both) for rank in _state.core.ranks())
    native.labels = both if preferred else hard
