"""Errors of a search."""

from __future__ import annotations


class TuneError(Exception):
    """A search cannot be run as asked; the text says what to change."""
