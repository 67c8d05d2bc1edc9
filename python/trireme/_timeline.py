"""What ran when, as Chrome's tracing reads it."""

from __future__ import annotations

import json
from typing import Any


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """The recorded tasks and calls of all ranks as trace events.

    Parameters
    ----------
    filename
        Where to write them as JSON, for chrome://tracing or Perfetto; None: they are returned.
    """
    from trireme import _init
    from trireme.util.state import api

    _init.core()
    events = api.timeline_events()
    if filename is None:
        return events
    with open(filename, "w") as file:
        json.dump(events, file)
    return None
