"""The settings of a job as one object, for `init(job_config=...)`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

_LIFETIMES = ("detached", "non_detached")


class JobConfig:
    """Settings of a job. Arguments of `init` go before them.

    Parameters
    ----------
    code_search_path
        Folders that all workers look for Python modules in before any others.
    runtime_env
        As in `init`.
    metadata
        Texts that `trireme.util.state.list_jobs` shows.
    ray_namespace
        As `namespace` in `init`.
    default_actor_lifetime
        ``"detached"``: actors whose options do not say otherwise live until the job ends.

    Errors: TypeError and ValueError for settings that are none.
    """

    def __init__(
        self,
        jvm_options: Sequence[str] | None = None,
        code_search_path: Sequence[str] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        _client_job: bool = False,
        metadata: Mapping[str, str] | None = None,
        ray_namespace: str | None = None,
        default_actor_lifetime: str = "non_detached",
    ) -> None:
        if jvm_options or _client_job:
            raise ValueError("JobConfig: there is no Java here, and no job of a client; leave jvm_options and _client_job out")
        self.metadata: dict[str, str] = {}
        self.runtime_env: dict[str, Any] = {}
        self.set_code_search_path(code_search_path or [])
        self.set_runtime_env(runtime_env)
        self.set_ray_namespace(ray_namespace)
        self.set_default_actor_lifetime(default_actor_lifetime)
        for key, value in (metadata or {}).items():
            self.set_metadata(key, value)

    def set_metadata(self, key: str, value: str) -> None:
        """Adds a text."""
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"JobConfig: metadata is of texts, not {key!r}: {value!r}")
        self.metadata[key] = value

    def set_runtime_env(self, runtime_env: Mapping[str, Any] | None, validate: bool = False) -> None:
        """Replaces the runtime environment. `validate`: looks at it now and not only in `init`."""
        self.runtime_env = dict(runtime_env or {})
        if validate:
            from trireme import _runtime_env

            _runtime_env.normal(self.runtime_env)

    def set_ray_namespace(self, ray_namespace: str | None) -> None:
        """Replaces the namespace."""
        self.ray_namespace = ray_namespace

    def set_code_search_path(self, code_search_path: Sequence[str]) -> None:
        """Replaces the folders."""
        if isinstance(code_search_path, str) or not all(isinstance(path, (str, os.PathLike)) for path in code_search_path):
            raise TypeError(f"JobConfig: code_search_path is a list of folders, not {code_search_path!r}")
        self.code_search_path = [os.path.abspath(path) for path in code_search_path]

    def set_default_actor_lifetime(self, default_actor_lifetime: str) -> None:
        """Replaces how long actors live."""
        if default_actor_lifetime not in _LIFETIMES:
            raise ValueError(f"JobConfig: default_actor_lifetime is {default_actor_lifetime!r}; give {' or '.join(_LIFETIMES)}")
        self.default_actor_lifetime = default_actor_lifetime

    @classmethod
    def from_json(cls, job_config_json: Mapping[str, Any]) -> JobConfig:
        """From a dict of the arguments."""
        return cls(**job_config_json)
