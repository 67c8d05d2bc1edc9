"""Small things for programs that print and measure."""

from __future__ import annotations

_logged: set[str] = set()
_disabled = False


def log_once(key: str) -> bool:
    """Return True the first time it is called with this key in this process, False from then on.

    Examples
    --------
    >>> if log_once("slow-path"):
    ...     print("using the slow path")
    using the slow path
    """
    if _disabled or key in _logged:
        return False
    _logged.add(key)
    return True


def disable_log_once_globally() -> None:
    """Make `log_once` return False in this process."""
    global _disabled
    _disabled = True


def enable_periodic_logging() -> None:
    """Forget which keys were seen, so that each is logged once more."""
    _logged.clear()
