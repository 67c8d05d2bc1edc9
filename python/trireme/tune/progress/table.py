"""A plain table."""

from __future__ import annotations

from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns; numbers to the right."""
    widths = [
        max(len(heading), *(len(row[at]) for row in rows)) if rows else len(heading)
        for at, heading in enumerate(headings)
    ]
    right = [
        bool(rows) and all(_is_number(row[at]) for row in rows) and any(row[at] for row in rows)
        for at in range(len(headings))
    ]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in zip(cells, widths, right)
        ).rstrip()

    return [line(headings), "-" * (sum(widths) + 2 * (len(widths) - 1)), *(line(row) for row in rows)]


def _is_number(text: str) -> bool:
    try:
        float(text or "0")
    except ValueError:
        return False
    return True
