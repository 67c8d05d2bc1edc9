"""Runtime environments."""

from trireme._runtime_env import RuntimeEnv

__all__ = ["RuntimeEnv"]
