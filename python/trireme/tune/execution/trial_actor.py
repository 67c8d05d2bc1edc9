"""The process of a trial."""

from __future__ import annotations

import inspect
import os
import queue
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from trireme import _session
from trireme.train._checkpoint import Checkpoint
from trireme.train._storage import CHECKPOINT_PREFIX, persist
from trireme.tune import session
from trireme.tune.session import TrialInfo
from trireme.tune.trainable.trainable import Trainable

NOT_RESET = "not reset"
DEFAULT_METRIC = "_metric"
Report = dict[str, Any]


class Runner(Protocol):
    """Drives a trainable one report at a time."""

    def step(self) -> Report: ...
    def save(self) -> Report | None: ...
    def pack(self) -> dict[str, Any] | None: ...
    def stop(self) -> None: ...


class TrialActor:
    """One trial (after `restart`, another one). The search calls `step` and gets one report, or the end, for each call.

    Threading: one call at a time; a function trainable runs in a thread of its own and waits within `report`.
    """

    def __init__(self, trainable: Any, config: dict[str, Any], info: TrialInfo, start: Any) -> None:
        self._trainable = trainable
        self._redirected: _Output | None = None
        self._runner: Runner = self._make(config, info, start)
        self._said_where = False

    def _make(self, config: dict[str, Any], info: TrialInfo, start: Any) -> Runner:
        os.makedirs(info.trial_dir, exist_ok=True)
        if info.change_directory:
            os.environ["TUNE_ORIG_WORKING_DIR"] = info.driver_directory
            os.chdir(info.trial_dir)
        if info.log_to_file:
            self._redirected = _Output(info.trial_dir, info.log_to_file)
        if inspect.isclass(self._trainable):
            return ClassRunner(self._trainable, config, info, start)
        return FunctionRunner(self._trainable, config, info, start)

    def step(self) -> Report:
        """The next report; ``{"done": True, "metrics": None}`` when the function has returned."""
        report = self._runner.step()
        if not self._said_where:
            self._said_where = True
            report["where"] = {"pid": os.getpid(), "hostname": socket.gethostname(), "node_ip": _address()}
        return report

    def save(self) -> Report | None:
        """Saves a class trainable into the trial's folder; None for a function, which reports its checkpoints."""
        return self._runner.save()

    def pack(self) -> dict[str, Any] | None:
        """The trainable's state in memory; the result stays in the object store. None: it has none yet."""
        return self._runner.pack()

    def stop(self) -> None:
        """Ends the trainable and waits for it."""
        self._runner.stop()
        session.leave()
        if self._redirected:
            self._redirected.close()
            self._redirected = None

    def restart(self, config: dict[str, Any], info: TrialInfo, start: Any) -> Report | str:
        """Takes up another trial in this process and runs to its first report; `NOT_RESET` when the class cannot."""
        if isinstance(self._runner, ClassRunner):
            session.enter(info)
            if not self._runner.reset(config, info, start):
                return NOT_RESET
            os.makedirs(info.trial_dir, exist_ok=True)
            if info.change_directory:
                os.chdir(info.trial_dir)
        else:
            self.stop()
            self._runner = self._make(config, info, start)
        self._said_where = False
        return self.step()


class _Stop(SystemExit):
    """Raised in a function trainable, out of `report`, when the trial is over."""


class FunctionRunner:
    """A function in a thread. It runs only while a `step` waits for it, so the search decides at each report."""

    def __init__(
        self, function: Callable[[dict[str, Any]], Any], config: dict[str, Any], info: TrialInfo, start: Any
    ) -> None:
        self._function, self._config, self._info = function, config, info
        self._reports: queue.SimpleQueue[Report | BaseException] = queue.SimpleQueue()
        self._go = threading.Lock()
        self._go.acquire()
        self._waits_in_report = False
        self._stopping = False
        self._ended = False
        self._iteration, self._time_total = info.iteration, info.time_total_s
        self._next_checkpoint = info.next_checkpoint
        self._unpacked: str | None = None
        session.enter(info, self._report, self._start_checkpoint(start))
        self._resumed = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="trial", daemon=True)
        self._thread.start()

    def step(self) -> Report:
        # The thread starts with the runner and holds at its first report, so the first step only waits.
        if self._waits_in_report:
            self._waits_in_report = False
            self._go.release()
        got = self._reports.get()
        if isinstance(got, BaseException):
            self._ended = True
            raise got
        self._ended = got["done"]
        self._waits_in_report = not self._ended
        return got

    def save(self) -> Report | None:
        return None

    def pack(self) -> dict[str, Any] | None:
        return None  # each reported checkpoint went into the object store with its report

    def stop(self) -> None:
        if not self._ended:
            self._stopping = True
            self._go.release()
            self._thread.join()
            self._ended = True
        if self._unpacked:
            shutil.rmtree(self._unpacked, ignore_errors=True)
            self._unpacked = None

    def _start_checkpoint(self, start: Any) -> Checkpoint | None:
        if start is None:
            return None
        if isinstance(start, str):
            return Checkpoint.from_directory(start)
        # With the session's files, which go even when this process is killed.
        self._unpacked = tempfile.mkdtemp(prefix="checkpoint_", dir=_session.current())
        return Checkpoint.from_files(start["files"], self._unpacked)

    def _run(self) -> None:
        try:
            output = self._function(self._config)
            if inspect.isgenerator(output):
                for item in output:
                    self._report(_metrics_of(item), None)
            elif output is not None:
                self._report(_metrics_of(output), None)
            self._reports.put({"done": True, "metrics": None})
        except _Stop:
            self._reports.put({"done": True, "metrics": None})
        except SystemExit as leaving:
            self._reports.put(RuntimeError(f"the trial's function called sys.exit({leaving.code!r}); return instead"))
        except BaseException as error:
            self._reports.put(error)

    def _report(self, metrics: dict[str, Any], checkpoint: Checkpoint | None) -> None:
        if self._stopping:
            raise _Stop(0)
        now = time.monotonic()
        spent = now - self._resumed
        self._iteration += 1
        self._time_total += spent
        report: Report = {
            "done": False,
            "metrics": metrics,
            "iteration": metrics.get("training_iteration", self._iteration),
            "this_s": spent,
            "total_s": self._time_total,
            "stamp": time.time(),
        }
        if checkpoint is not None:
            folder = f"{CHECKPOINT_PREFIX}{self._next_checkpoint:06d}"
            report["folder"], report["folder_index"] = folder, self._next_checkpoint
            self._next_checkpoint += 1
            _persist(checkpoint.path, os.path.join(self._info.trial_dir, folder))
            if self._info.in_object_store:
                import trireme

                report["stored"] = trireme.put({"files": checkpoint.to_files()})
        self._reports.put(report)
        self._go.acquire()
        self._resumed = time.monotonic()
        if self._stopping:
            raise _Stop(0)


class ClassRunner:
    """A `Trainable` instance."""

    def __init__(self, cls: type[Trainable], config: dict[str, Any], info: TrialInfo, start: Any) -> None:
        session.enter(info)
        self._info = info
        self._instance = cls(config)
        self._next_checkpoint = info.next_checkpoint
        self._restore(start)

    def _restore(self, start: Any) -> None:
        if isinstance(start, str):
            self._instance.restore(start)
        elif start is not None:
            self._instance.restore_from_object(start)

    def reset(self, config: dict[str, Any], info: TrialInfo, start: Any) -> bool:
        if not self._instance.reset(config):
            return False
        self._info, self._instance._trial_info = info, info
        self._instance._stopped = False
        self._next_checkpoint = info.next_checkpoint
        self._restore(start)
        return True

    def step(self) -> Report:
        metrics = self._instance.train()
        done = bool(metrics.pop("done"))
        metrics.pop("config")
        report: Report = {
            "done": done,
            "iteration": metrics.pop("training_iteration"),
            "this_s": metrics.pop("time_this_iter_s"),
            "total_s": metrics.pop("time_total_s"),
            "stamp": time.time(),
            "metrics": metrics,
        }
        frequency = self._info.checkpoint_frequency
        if (frequency and self._instance.iteration % frequency == 0) or metrics.pop("should_checkpoint", False):
            report.update(self.save())
        return report

    def save(self) -> Report:
        folder = f"{CHECKPOINT_PREFIX}{self._next_checkpoint:06d}"
        target = os.path.join(self._info.trial_dir, folder)
        partial = f"{target}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        self._instance.save(partial)
        _rename(partial, target)
        self._next_checkpoint += 1
        return {
            "folder": folder,
            "folder_index": self._next_checkpoint - 1,
            "folder_iteration": self._instance.iteration,
            "folder_time": self._instance._time_total,
        }

    def pack(self) -> dict[str, Any]:
        return self._instance.save_to_object()

    def stop(self) -> None:
        self._instance.stop()


def _persist(source: str, target: str) -> None:
    """Copies a checkpoint under its final name only when it is whole."""
    partial = f"{target}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    persist(source, partial)
    _rename(partial, target)


def _rename(partial: str, target: str) -> None:
    # One of that name is from a search that was killed before it knew of it.
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)


def _metrics_of(output: Any) -> dict[str, Any]:
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, (int, float)) or hasattr(output, "item"):
        return {DEFAULT_METRIC: output if isinstance(output, (int, float)) else output.item()}
    raise TypeError(
        f"a function trainable returned {type(output).__name__}; return a dict of metrics, a number, or nothing"
    )


def _address() -> str:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


class _Output:
    """Copies what a trial prints into files of its folder."""

    def __init__(self, folder: str, names: tuple[str, str]) -> None:
        self._before = sys.stdout, sys.stderr
        out = open(os.path.join(folder, names[0]), "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        same = names[0] == names[1]
        err = out if same else open(os.path.join(folder, names[1]), "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._files = [out] if same else [out, err]
        sys.stdout, sys.stderr = _Tee(sys.stdout, out), _Tee(sys.stderr, err)

    def close(self) -> None:
        sys.stdout, sys.stderr = self._before
        for file in self._files:
            file.close()


class _Tee:
    """A text stream that writes to two."""

    def __init__(self, first: Any, second: Any) -> None:
        self._first, self._second = first, second

    def write(self, text: str) -> int:
        self._second.write(text)
        return self._first.write(text)

    def flush(self) -> None:
        self._second.flush()
        self._first.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._first, name)
