"""Text for terminals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Return the rows as aligned columns under their names."""
    cells = [[column.upper() for column in columns], *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() + "\n" for line in cells)


def as_json(value: Any) -> str:
    """Return indented JSON with a closing newline."""
    return json.dumps(value, indent=2, default=str) + "\n"


def size(count: float) -> str:
    """Return a number of bytes with a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def amount(name: str, value: float) -> str:
    """Return an amount of a resource."""
    if name in ("memory", "object_store_memory"):
        return size(value)
    return f"{value:g}"


def resources(total: dict[str, float], available: dict[str, float]) -> Iterable[str]:
    """Yield `used/total name` for each resource."""
    for name in sorted(total):
        used = total[name] - available.get(name, 0.0)
        yield f"{amount(name, max(used, 0.0))}/{amount(name, total[name])} {name}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ",".join(f"{key}={_cell(entry)}" for key, entry in value.items())
    return str(value)
