"""What the Python programs share: one program text for Ray and Trireme, its cases, and the line that a sample is."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Case = Callable[..., float]


def cores() -> int:
    return len(os.sched_getaffinity(0))


def load(name: str) -> Any:
    """`import ray`, or `import trireme as ray`."""
    if name not in ("ray", "trireme"):
        raise SystemExit(f"the runtime is ray or trireme, not {name!r}")
    return importlib.import_module(name)


def start(name: str) -> Any:
    """The module, initialised with all cores. Ray without its dashboard and with a quiet log."""
    ray = load(name)
    others = {"object_store_memory": 2 << 30} if name == "ray" else {}
    ray.init(num_cpus=cores(), include_dashboard=False, logging_level="ERROR", log_to_driver=False, **others)
    return ray


def options(words: list[str], defaults: dict[str, Any]) -> dict[str, Any]:
    """`key=value` words over the defaults, each of its default's type."""
    chosen = dict(defaults)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in defaults:
            raise SystemExit(f"{word!r}: expected one of {', '.join(f'{name}=...' for name in defaults)}")
        chosen[key] = type(defaults[key])(value)
    return chosen


def sample(case: str, unit: str, value: float) -> None:
    print(json.dumps({"case": case, "unit": unit, "value": value}), flush=True)


def failed(case: str, error: BaseException) -> None:
    print(json.dumps({"case": case, "error": f"{case}: {type(error).__name__}: {error}".splitlines()[0][:300]}), flush=True)


def seconds_per_op(round_of: Callable[[], Any], ops: int, seconds: float) -> float:
    """Seconds an operation: `round_of` does `ops` of them. One round, or a fifth of the time, is warm-up."""
    begin = time.perf_counter()
    while True:
        round_of()
        if time.perf_counter() - begin > seconds / 5:
            break
    rounds = 0
    begin = time.perf_counter()
    while True:
        round_of()
        rounds += 1
        took = time.perf_counter() - begin
        if took > seconds:
            return took / (rounds * ops)


def run_cases(wanted: str, cases: dict[str, tuple[str, Case]], *arguments: Any) -> int:
    """Takes one sample of each case named (separated by commas). A case that fails says so and the others go on."""
    names = wanted.split(",")
    unknown = [name for name in names if name not in cases]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(cases)}", file=sys.stderr)
        return 2
    for name in names:
        unit, case = cases[name]
        try:
            sample(name, unit, case(*arguments))
        except Exception as error:  # noqa: BLE001 - the line goes into the table
            failed(name, error)
    return 0
