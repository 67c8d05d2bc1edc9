"""Ray's `ray.runtime_env`: a runtime environment as an object, which is a dict here as there."""

from __future__ import annotations

from typing import Any


class RuntimeEnv(dict):
    """What tasks and actors find in their process: `env_vars`, `working_dir`, `py_modules`, `py_executable`, ...

    The runtime checks names and values where the environment is used.
    """

    def __init__(self, **parts: Any) -> None:
        super().__init__({name: value for name, value in parts.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict."""
        return dict(self)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None
