"""A plain table."""

from __future__ import annotations

from collections.abc import Sequence

_GAP = 2  # spaces between columns


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns; numbers to the right."""
    widths = _widths(headings, rows)
    right = [
        bool(rows) and all(_is_number(row[at]) for row in rows) and any(row[at] for row in rows)
        for at in range(len(headings))
    ]

    def line(cells: Sequence[str]) -> str:
        return (
            (" " * _GAP)
            .join(
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(cells, widths, right)
            )
            .rstrip()
        )

    return [line(headings), "-" * (sum(widths) + _GAP * (len(widths) - 1)), *(line(row) for row in rows)]


def fitting(
    headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, first: Sequence[int] = ()
) -> list[int]:
    """Which columns fit into lines of `width`, in their order: those named `first`, then from the left."""
    if width is None:
        return list(range(len(headings)))
    widths = _widths(headings, rows)
    chosen: list[int] = []
    left = width + _GAP
    for at in dict.fromkeys([*first, *range(len(headings))]):
        if widths[at] + _GAP <= left or not chosen:
            chosen.append(at)
            left -= widths[at] + _GAP
    return sorted(chosen)


def _widths(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max([len(heading), *(len(row[at]) for row in rows)]) for at, heading in enumerate(headings)]


def _is_number(text: str) -> bool:
    try:
        float(text or "0")
    except ValueError:
        return False
    return True
