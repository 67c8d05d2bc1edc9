"""Joining and leaving a job: init(), shutdown(), and what happens on the ranks that do not run the script."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from typing import TYPE_CHECKING, Any

from trireme import _collecting, _state

if TYPE_CHECKING:
    from trireme._log_config import LoggingConfig
    from trireme.job_config import JobConfig

#: Under this key rank 0 keeps the job's settings for all workers.
JOB_KEY = b"trireme:job\0\0\0\0\0"

_sessions = 0
_ranks = 1  # of the latest job
_zygote_pid = 0
_process = 0  # the pid that joined; a fork of it is no rank
_printer: Any = None
_leave_tools: Any = None  # takes back what the tools find the session by
_lock = threading.RLock()

_ARGUMENTS = (
    "address", "num_cpus", "num_gpus", "resources", "labels", "object_store_memory", "namespace", "runtime_env",
    "ignore_reinit_error", "include_dashboard", "dashboard_host", "dashboard_port", "job_config", "configure_logging",
    "logging_level", "logging_format", "logging_config", "log_to_driver", "local_mode", "allow_multiple",
    "enable_resource_isolation", "system_reserved_cpu", "system_reserved_memory",
)  # fmt: skip
#: Ray's arguments about processes that do not exist here.
_WITHOUT_MEANING = {
    "dashboard_host": "there is no dashboard; `trireme top` and `trireme status` show the job",
    "dashboard_port": "there is no dashboard; `trireme top` and `trireme status` show the job",
    "allow_multiple": "a process is in one job",
    "enable_resource_isolation": "the launcher's control groups hold already",
    "system_reserved_cpu": "there are no system processes to reserve for",
    "system_reserved_memory": "there are no system processes to reserve for",
}


def core() -> Any:
    """This process's runtime; joins the job when that has not happened."""
    if _state.core is None:
        init()
    return _state.core


def is_initialized() -> bool:
    """Whether this process takes part in a job."""
    return _state.core is not None


def was_initialized() -> bool:
    """Whether this process took part in a job at any time."""
    return _sessions > 0


class Context:
    """What init() returns: where this process is. Usable as a context manager that shuts down at its end."""

    def __init__(self, core: Any) -> None:
        from trireme._nodes import node_id

        ranks = core.ranks()
        here = next(row for row in ranks if row["rank"] == core.rank)
        self.address_info = {
            "address": "local",
            "node_id": node_id(here),
            "node_ip_address": here["host"],
            "ranks": len(ranks),
            "session_name": _state.job.get("job_id", ""),
        }
        self.dashboard_url = ""
        self.python_version = sys.version.split()[0]

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        shutdown()

    def disconnect(self) -> None:
        shutdown()

    def _rows(self) -> list[tuple[str, str]]:
        ranks = _state.core.ranks() if _state.core is not None else []
        hosts = sorted({rank["host"] for rank in ranks})
        return [
            ("Ranks", str(len(ranks))),
            ("Hosts", ", ".join(hosts)),
            ("CPUs", f"{sum(rank['total'].get('CPU', 0) for rank in ranks):g}"),
            ("GPUs", f"{sum(rank['total'].get('GPU', 0) for rank in ranks):g}"),
            ("Namespace", _state.job.get("namespace", "")),
        ]

    def __repr__(self) -> str:
        return f"Context({', '.join(f'{name.lower()}={value}' for name, value in self._rows())})"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self._rows())
        return f"<table><caption>Trireme</caption>{rows}</table>"


def init(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: float | None = None,
    resources: dict[str, float] | None = None,
    labels: dict[str, str] | None = None,
    object_store_memory: int | None = None,
    namespace: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    job_config: JobConfig | None = None,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    configure_logging: bool = True,
    logging_level: int | str = "INFO",
    logging_format: str | None = None,
    logging_config: LoggingConfig | None = None,
    log_to_driver: bool = True,
    local_mode: bool = False,
    _temp_dir: str | None = None,
    **others: Any,
) -> Context:
    """Joins the job that `mpirun` or `srun` started, or makes one of this process alone.

    On rank 0 it returns and the script goes on. On the other ranks it serves until rank 0 ends, and then ends the process.
    get(), put(), wait() and `.remote()` call it themselves when it was not called.

    Parameters
    ----------
    address
        None, "auto" or "local": the job of this process; or that of a `cluster_utils.Cluster`. There is nothing else to
        connect to, so other addresses only warn.
    num_cpus, num_gpus, resources, labels
        Of this rank, in place of what is found. Amounts; labels are texts.
    object_store_memory
        Bytes of shared memory for objects of this rank.
    namespace
        Where names of actors are looked up and made unless they say otherwise.
    runtime_env
        For all workers: see trireme.runtime_env.RuntimeEnv.
    job_config
        A trireme.job_config.JobConfig, for what the other arguments do not say.
    ignore_reinit_error
        A second call gives the context of the first instead of an error.
    log_to_driver
        Show what workers write.
    local_mode
        Tasks and actors run in this process, one after the other, where they are called: for debuggers. Options about
        placement, processes and retries then have no effect; see trireme._local.
    logging_level, logging_format
        Of the logger "trireme".
    logging_config
        How the root loggers of the driver and of all workers write, in place of `logging_level` and `logging_format`: see
        LoggingConfig.
    _temp_dir
        For temporary files of this process and its workers, the session's folder among them, in place of TMPDIR.

    Errors: RuntimeError when already initialised; TypeError or ValueError for arguments that are none.
    """
    global _sessions, _ranks
    address = _cluster_address(address)
    if address is not None and address.startswith("trireme-cluster:") and _state.core is None:
        from trireme import cluster_utils

        return cluster_utils.join(
            address,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            resources=resources,
            labels=labels,
            object_store_memory=object_store_memory,
            namespace=namespace,
            runtime_env=runtime_env,
            job_config=job_config,
            include_dashboard=include_dashboard,
            configure_logging=configure_logging,
            logging_level=logging_level,
            logging_format=logging_format,
            logging_config=logging_config,
            log_to_driver=log_to_driver,
            local_mode=local_mode,
            _temp_dir=_temp_dir,
            **others,
        )
    with _lock:
        if _state.core is not None:
            if ignore_reinit_error or _state.worker is not None:
                return Context(_state.core)
            raise RuntimeError(
                "trireme.init() was called twice; call trireme.shutdown() between, or init(ignore_reinit_error=True)"
            )
        if _ranks > 1 and "PMIX_RANK" in os.environ and "TRIREME_LOCAL_RANK" not in os.environ:
            raise RuntimeError(
                f"trireme.init() after trireme.shutdown(): the {_ranks - 1} other ranks of this job ended with shutdown(), and "
                f"nothing can start them again; call shutdown() once, at the end"
            )
        config = _job_config(job_config)
        namespace = config.ray_namespace if namespace is None else namespace
        _check(num_cpus, num_gpus, resources, labels, object_store_memory, namespace)
        _check_logging_config(logging_config)
        _explain(address, include_dashboard, others)
        from trireme import _runtime_env

        job = {
            "job_id": os.urandom(4).hex(),
            "namespace": namespace or os.urandom(8).hex(),
            "sys_path": [*config.code_search_path, *(os.path.abspath(place) for place in sys.path)],
            "cwd": os.getcwd(),
            "runtime_env": _runtime_env.normal(config.runtime_env if runtime_env is None else runtime_env),
            "metadata": config.metadata,
            "default_actor_lifetime": config.default_actor_lifetime,
            "log_to_driver": log_to_driver,
            "logging_config": logging_config,
            "cpp_libraries": _loaded_libraries(),
        }
        if logging_config is not None:
            from trireme import _log_config

            _log_config.apply(logging_config)
        elif configure_logging:
            _configure_logging(logging_level, logging_format)
        if _temp_dir is not None:
            import tempfile

            os.environ["TMPDIR"] = os.fspath(_temp_dir)
            tempfile.tempdir = None
        joined = _join(num_cpus, num_gpus, resources or {}, labels or {}, object_store_memory)
        if joined.rank != 0:
            _serve(joined)
        joined.export(JOB_KEY, pickle.dumps(job))
        _sessions += 1
        _ranks = len(joined.ranks())
        _state.job = job
        _state.core = joined
        _state.session = _sessions
        _state.local = bool(local_mode)
        _start_logs(joined, lambda: job)
        _collecting.start()
        _register_exit()
        return Context(joined)


def _loaded_libraries() -> list[str]:
    """C++ libraries that were loaded before init(), if any was."""
    cross_language = sys.modules.get("trireme.cross_language")
    return cross_language.loaded() if cross_language is not None else []


def _cluster_address(address: str | None) -> str | None:
    """The address of the test cluster that this process is to join at first use, if there is one."""
    clusters = sys.modules.get("trireme.cluster_utils")
    if clusters is not None and address in (None, "auto"):
        return clusters.wanted_address() or address
    return address


def serve() -> None:
    """What a rank does that does not run the script: works until rank 0 ends. Does not return."""
    _serve(_join(None, None, {}, {}, None))


def rank_of_launcher() -> int:
    """The rank that the launcher gave this process, before anything was started. 0 without a launcher."""
    return int(os.environ.get("PMIX_RANK", "0"))


#: What workers need of a package that the program has imported: loaded once, in the template process.
_PRELOADS = {"numpy": "numpy", "trireme.tune": "trireme.tune.execution.trial_actor"}


def _join(
    num_cpus: int | None, num_gpus: float | None, resources: dict, labels: dict, arena_bytes: int | None
) -> Any:
    global _zygote_pid, _process, _leave_tools
    from trireme import _session, _zygote

    # Before the template process, whose workers find it in their environment.
    folder = _session.create()
    # Before anything else: it must be forked off a process that has neither MPI, UCX nor CUDA.
    fd, _zygote_pid = _zygote.start([needed for used, needed in _PRELOADS.items() if used in sys.modules])
    _process = os.getpid()
    from trireme._native import RankCore

    if num_cpus == 0:
        # The rank needs a thread of its own all the same; what asks for a CPU goes elsewhere.
        num_cpus, resources = 1, {**resources, "CPU": 0}
    try:
        joined = RankCore(
            threads=num_cpus or 0,
            arena_bytes=int(arena_bytes or 0),
            gpus=-1 if num_gpus is None else num_gpus,
            resources={name: float(amount) for name, amount in resources.items()},
            labels={**_labels_of_environment(), **labels},
            zygote_fd=fd,
            zygote_pid=_zygote_pid,
        )
    except BaseException:
        import signal

        os.kill(_zygote_pid, signal.SIGKILL)
        os.waitpid(_zygote_pid, 0)
        _session.remove(folder)
        raise
    server = None
    if joined.rank == 0:
        from trireme._tools.control import ControlServer

        server = ControlServer(folder)

    def leave_tools() -> None:
        if server is not None:
            server.close()
        _session.remove(folder)

    _leave_tools = leave_tools
    return joined


def _labels_of_environment() -> dict[str, str]:
    text = os.environ.get("TRIREME_LABELS", "")
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _serve(joined: Any) -> None:
    def settings() -> dict[str, Any]:
        return pickle.loads(joined.imported(0, JOB_KEY))

    _start_logs(joined, settings)
    status = 0
    try:
        joined.serve()
    except KeyboardInterrupt:
        status = 130
    except Exception as error:  # noqa: BLE001 - a rank ends with a line, not with a traceback
        sys.stderr.write(f"trireme: rank {joined.rank} ends: {error}\n")
        status = 1
    _leave(joined)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _start_logs(joined: Any, settings: Any) -> None:
    global _printer
    from trireme._logs import Printer

    _printer = Printer(joined, settings)
    _printer.start()


def _leave(joined: Any) -> None:
    global _printer
    joined.stop()
    if _printer is not None:
        _printer.join()
        _printer = None
    try:
        os.waitpid(_zygote_pid, 0)
    except ChildProcessError:
        pass  # somebody else waited for it
    _leave_tools()


def shutdown(_exiting_interpreter: bool = False) -> None:
    """Leaves the job. On rank 0 that ends it: workers stop, the other ranks end, objects are gone. Nothing when not
    initialised; nothing in a worker."""
    with _lock:
        joined = _state.core
        if joined is None or _state.worker is not None or os.getpid() != _process:
            return
        if (watching := sys.modules.get("trireme._watching")) is not None:
            watching.close()
        if (groups := sys.modules.get("trireme.util.placement_group")) is not None:
            groups._made.clear()  # placement groups of this session, which would keep the runtime's memory
        if not sys.is_finalizing():
            import gc

            gc.collect()  # exceptions and their frames hold references in cycles, which would keep it as well
        if (local := sys.modules.get("trireme._local")) is not None:
            local.close()
        _state.local = False
        _state.core = None
        _state.session = 0
        _state.captured_group = None
        _leave(joined)
        _state.job = {}
    # Not under the lock, which what they still do may need. A thread that came back from native code when the interpreter has
    # begun to end would end the process with it.
    if watching is not None:
        watching.join()
    _collecting.join()


_exit_registered = False


def _register_exit() -> None:
    global _exit_registered
    if not _exit_registered:
        import atexit

        atexit.register(shutdown)
        _exit_registered = True


def _check(num_cpus: Any, num_gpus: Any, resources: Any, labels: Any, arena: Any, namespace: Any) -> None:
    if num_cpus is not None and (not isinstance(num_cpus, int) or isinstance(num_cpus, bool) or num_cpus < 0):
        raise ValueError(f"num_cpus must be an integer >= 0, not {num_cpus!r}")
    if num_gpus is not None and (not isinstance(num_gpus, (int, float)) or num_gpus < 0):
        raise ValueError(f"num_gpus must be a number >= 0, not {num_gpus!r}")
    if resources is not None and not (
        isinstance(resources, dict)
        and all(isinstance(k, str) and isinstance(v, (int, float)) and v >= 0 for k, v in resources.items())
    ):
        raise TypeError(f"resources must be a dict of names to numbers >= 0, not {resources!r}")
    for name in ("CPU", "GPU"):
        if name in (resources or {}):
            raise ValueError(f"resources: give {name}s by num_{name.lower()}s")
    if labels is not None and not (
        isinstance(labels, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in labels.items())
    ):
        raise TypeError(f"labels must be a dict of texts to texts, not {labels!r}")
    if arena is not None and (not isinstance(arena, (int, float)) or arena <= 0):
        raise ValueError(f"object_store_memory must be a number of bytes > 0, not {arena!r}")
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        raise ValueError(f"namespace must be a text that is not empty, not {namespace!r}")


def _job_config(config: Any) -> JobConfig:
    from trireme.job_config import JobConfig

    if config is None:
        return JobConfig()
    if not isinstance(config, JobConfig):
        raise TypeError(f"job_config must be a JobConfig, not {config!r}")
    return config


def _check_logging_config(config: Any) -> None:
    if config is not None:
        from trireme._log_config import LoggingConfig

        if not isinstance(config, LoggingConfig):
            raise TypeError(f"logging_config must be a LoggingConfig, not {config!r}")


def _explain(address: Any, include_dashboard: Any, others: dict[str, Any]) -> None:
    """Says what has no effect here, and refuses what is no argument."""
    import warnings

    if address not in (None, "auto", "local"):
        warnings.warn(
            f"init(address={address!r}): the ranks of this job are the cluster, there is nothing else to connect to; "
            f"start more of them with mpirun or srun",
            stacklevel=3,
        )
    if include_dashboard:
        warnings.warn(f"init(include_dashboard=True): {_WITHOUT_MEANING['dashboard_host']}", stacklevel=3)
    for name, value in others.items():
        if name in _WITHOUT_MEANING:
            if value is not None and value is not False:
                warnings.warn(f"init({name}=...) has no effect: {_WITHOUT_MEANING[name]}", stacklevel=3)
        elif name.startswith("_"):
            warnings.warn(f"init({name}=...): an internal setting of Ray without effect here", stacklevel=3)
        else:
            import difflib

            nearest = difflib.get_close_matches(name, _ARGUMENTS, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; there are: {', '.join(_ARGUMENTS)}"
            raise TypeError(f"init() has no argument {name!r}{hint}")


def _configure_logging(level: int | str, format: str | None) -> None:
    import logging

    logger = logging.getLogger("trireme")
    logger.setLevel(level.upper() if isinstance(level, str) else level)
    if format and not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(format))
        logger.addHandler(handler)
        logger.propagate = False
