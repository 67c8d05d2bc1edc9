"""Runtime environments: what a worker process is given before it runs user code.

Checked where they are asked for, handed to the worker as JSON, applied by the worker itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from typing import Any

from trireme import _state
from trireme.exceptions import RuntimeEnvSetupError

_KNOWN = ("env_vars", "working_dir", "py_modules", "py_executable", "pip", "worker_process_setup_hook", "config", "excludes")


class RuntimeEnv(dict):
    """A runtime environment; a dict with checked fields.

    Parameters
    ----------
    env_vars
        Environment variables of the worker. `${NAME}` stands for the value it has in the worker.
    working_dir
        A folder (seen by all nodes) or a local zip file. Becomes the worker's current folder and the first place to import from.
    py_modules
        Folders of packages, `.py`, `.zip` or `.whl` files, or modules, to import from.
    py_executable
        The interpreter (with its arguments) in place of the driver's. It must have the same version.
    pip
        Requirements (a list, or a dict with `packages`, or the path of a file) to install for it from the index that pip knows.
    worker_process_setup_hook
        A function without arguments, or its dotted name, that runs once in the worker.
    config
        `setup_timeout_seconds` for pip (600 by default).
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__(normal(fields))

    def to_dict(self) -> dict[str, Any]:
        return dict(self)


def normal(env: Any) -> dict[str, Any]:
    """The environment, checked, with absolute paths and only what JSON can hold. Errors: ValueError, TypeError."""
    if env is not None and not isinstance(env, dict):
        raise TypeError(f"runtime_env must be a dict, such as {{'env_vars': {{'A': '1'}}}}, not {env!r}")
    fields = {key: value for key, value in (env or {}).items() if value is not None}
    made: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in _KNOWN:
            raise ValueError(f"runtime_env has no field {name!r}; there are: {', '.join(sorted(_KNOWN))}")
        made[name] = _FIELDS[name](value)
    if "excludes" in made and "working_dir" in made:
        del made["excludes"]  # nothing is uploaded, so there is nothing to leave out
    return made


def _env_vars(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise TypeError(f"runtime_env['env_vars'] must be a dict of texts to texts, not {value!r}")
    return dict(value)


def _path(value: Any, field: str) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"runtime_env[{field!r}] must be a path, not {value!r}")
    text = os.fspath(value)
    if "://" in text:
        raise ValueError(f"runtime_env[{field!r}]={text!r}: only paths that the nodes can read are supported, no addresses")
    path = os.path.abspath(os.path.expanduser(text))
    if not os.path.exists(path):
        raise ValueError(f"runtime_env[{field!r}]: {path} does not exist")
    return path


def _working_dir(value: Any) -> str:
    path = _path(value, "working_dir")
    if not os.path.isdir(path) and not path.endswith((".zip", ".jar")):
        raise ValueError(f"runtime_env['working_dir'] must be a folder or a zip file, not {path}")
    return path


def _py_modules(value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"runtime_env['py_modules'] must be a list of paths and modules, not {value!r}")
    places = []
    for module in value:
        if hasattr(module, "__path__"):
            module = next(iter(module.__path__))
        elif getattr(module, "__file__", None):
            module = module.__file__
        path = _path(module, "py_modules")
        # What is imported by name is found from the folder that holds it; archives are searched themselves.
        places.append(path if path.endswith((".zip", ".whl", ".egg")) else os.path.dirname(path))
    return places


def _py_executable(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"runtime_env['py_executable'] must be a command, not {value!r}")
    return value


def _pip(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = value.get("packages")
    if isinstance(value, (str, os.PathLike)):
        with open(_path(value, "pip")) as file:
            value = [line.strip() for line in file if line.strip() and not line.lstrip().startswith("#")]
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise TypeError(f"runtime_env['pip'] must be a list of requirements or a file of them, not {value!r}")
    return list(value)


def _hook(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not callable(value):
        raise TypeError(f"runtime_env['worker_process_setup_hook'] must be a function or its dotted name, not {value!r}")
    from trireme._pickler import dump_function

    blob, refs = dump_function(value, "the worker_process_setup_hook")
    if refs:
        raise ValueError("the worker_process_setup_hook uses references or actors; pass them to tasks instead")
    return "pickle:" + blob.hex()


def _config(value: Any) -> dict[str, Any]:
    fields = value if isinstance(value, dict) else vars(value)
    return {"setup_timeout_seconds": fields.get("setup_timeout_seconds", 600)}


def _excludes(value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"runtime_env['excludes'] must be a list of patterns, not {value!r}")
    return list(value)


_FIELDS = {
    "env_vars": _env_vars,
    "working_dir": _working_dir,
    "py_modules": _py_modules,
    "py_executable": _py_executable,
    "pip": _pip,
    "worker_process_setup_hook": _hook,
    "config": _config,
    "excludes": _excludes,
}


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on `base`, field by field; variables one by one."""
    merged = {**base, **over}
    if "env_vars" in base and "env_vars" in over:
        merged["env_vars"] = {**base["env_vars"], **over["env_vars"]}
    return merged


def current() -> dict[str, Any]:
    """The environment of this process, which what it starts inherits."""
    worker = _state.worker
    if worker is not None and worker.env:
        return worker.env
    return _state.job.get("runtime_env") or {}


def for_process(env: Any) -> tuple[str, str]:
    """(key, JSON) of the process that a task or actor with that option needs; ("", "") for the job's plain workers."""
    job = _state.job.get("runtime_env") or {}
    here = current()
    wanted = merge(here, normal(env)) if env else here
    # What every worker needs an own process for: the job's environment is applied by plain workers themselves, but
    # another interpreter must be started.
    if wanted == job and "py_executable" not in wanted:
        return "", ""
    text = json.dumps(wanted, sort_keys=True)
    return hashlib.sha1(text.encode()).hexdigest()[:16], text


# In the worker.


def command_of(env: dict[str, Any]) -> list[str] | None:
    """The interpreter to start in place of this one; None: this one does."""
    executable = env.get("py_executable")
    return shlex.split(os.path.expandvars(executable)) if executable else None


def apply(env: dict[str, Any]) -> None:
    """Gives this process the environment. Errors: RuntimeEnvSetupError."""
    try:
        for name, value in env.get("env_vars", {}).items():
            os.environ[name] = os.path.expandvars(value)
        for place in reversed(env.get("py_modules", ())):
            _must_exist(place, "py_modules")
            sys.path.insert(0, place)
        if "working_dir" in env:
            folder = _unpacked(env["working_dir"])
            os.chdir(folder)
            sys.path.insert(0, folder)
        if env.get("pip"):
            sys.path.insert(0, _pip_folder(env))
        hook = env.get("worker_process_setup_hook")
        if hook:
            _run_hook(hook)
    except RuntimeEnvSetupError:
        raise
    except Exception as error:
        raise RuntimeEnvSetupError(f"the runtime environment could not be made: {type(error).__name__}: {error}") from error


def _must_exist(path: str, field: str) -> None:
    if not os.path.exists(path):
        raise RuntimeEnvSetupError(
            f"runtime_env[{field!r}]: {path} does not exist on {os.uname().nodename}; it must be on a file system that all "
            f"nodes see"
        )


def _job_folder(kind: str) -> str:
    """A folder of this rank's session, which goes with the rank."""
    from trireme import _session

    folder = _session.current()
    if folder is None:
        raise RuntimeEnvSetupError(f"there is no folder for {kind}: the session's ({_session.VARIABLE}) is gone")
    os.makedirs(folder / kind, mode=0o700, exist_ok=True)
    return os.fspath(folder / kind)


def _once(folder: str, make: Any) -> str:
    """Runs `make(folder)` in the first process of the node that needs it; the others wait for it."""
    import fcntl

    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = os.path.join(folder, ".done")
        if not os.path.exists(done):
            os.makedirs(folder, exist_ok=True)
            make(folder)
            with open(done, "w"):
                pass
    return folder


def _unpacked(path: str) -> str:
    _must_exist(path, "working_dir")
    if os.path.isdir(path):
        return path
    import zipfile

    name = hashlib.sha1(f"{path}:{os.path.getmtime(path)}".encode()).hexdigest()[:16]

    def unpack(folder: str) -> None:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)

    return _once(os.path.join(_job_folder("working_dir"), name), unpack)


def _pip_folder(env: dict[str, Any]) -> str:
    packages = env["pip"]
    name = hashlib.sha1("\n".join(packages).encode()).hexdigest()[:16]
    timeout_s = env.get("config", {}).get("setup_timeout_seconds", 600)

    def install(folder: str) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", folder]
        try:
            done = subprocess.run([*command, *packages], capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise RuntimeEnvSetupError(f"pip install {' '.join(packages)} took longer than {timeout_s} s") from None
        if done.returncode != 0:
            raise RuntimeEnvSetupError(f"pip install {' '.join(packages)} failed:\n{done.stderr.strip()[-2000:]}")

    return _once(os.path.join(_job_folder("pip"), name), install)


def _run_hook(hook: str) -> None:
    if hook.startswith("pickle:"):
        import pickle

        function = pickle.loads(bytes.fromhex(hook[len("pickle:") :]))
    else:
        import importlib

        module, _, name = hook.rpartition(".")
        function = getattr(importlib.import_module(module), name)
    function()
