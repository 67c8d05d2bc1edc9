"""Makes the backend known to joblib, which is imported only here."""

from __future__ import annotations


def register_trireme() -> None:
    """Make `joblib.parallel_backend("trireme")` run jobs in actors.

    Raises
    ------
    ImportError
        joblib is not installed.
    """
    _register("trireme")


def register_ray() -> None:
    """As `register_trireme`, under the name `"ray"`."""
    _register("ray")


def _register(name: str) -> None:
    try:
        from joblib.parallel import register_parallel_backend
    except ImportError as error:
        raise ImportError(f"joblib is needed for its {name!r} backend, and is not installed") from error
    from trireme.util.joblib.backend import TriremeBackend

    register_parallel_backend(name, TriremeBackend)
