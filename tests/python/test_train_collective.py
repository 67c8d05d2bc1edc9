"""`train.collective`: workers of a training that wait for each other and get values from rank 0."""

# ctest: timeout 300
from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trireme import train
from trireme.train import collective

pytestmark = pytest.mark.usefixtures("runtime")


def trainer(function: Any, path: Path, workers: int = 3, failures: int = 0, **more: Any) -> train.DataParallelTrainer:
    failure_config = train.FailureConfig(max_failures=failures)
    return train.DataParallelTrainer(
        function,
        backend_config=train.BackendConfig(),
        scaling_config=train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 0.1}),
        run_config=train.RunConfig(storage_path=path, name="run", failure_config=failure_config),
        **more,
    )


def rank() -> int:
    return train.get_context().get_world_rank()


def test_outside_of_a_training_they_say_where_they_work() -> None:
    for call in (collective.barrier, lambda: collective.broadcast_from_rank_zero(1)):
        with pytest.raises(RuntimeError, match=r"train\.collective\.\w+ works only in a training function.*workers$"):
            call()


@pytest.mark.parametrize("workers", [1, 3])
def test_all_get_what_rank_zero_gave(tmp_path: Path, workers: int) -> None:
    def loop() -> None:
        array = np.arange(300_000) if rank() == 0 else None
        small = collective.broadcast_from_rank_zero({"rank": rank(), "function": lambda: "called"})
        large = collective.broadcast_from_rank_zero(array)
        none = collective.broadcast_from_rank_zero(None if rank() == 0 else "not looked at")
        Path(tmp_path, f"got-{rank()}").write_text(repr((small["rank"], small["function"](), int(large.sum()), none)))
        collective.barrier()
        train.report({"there": sorted(path.name for path in tmp_path.glob("got-*"))})

    result = trainer(loop, tmp_path, workers).fit()
    assert result.metrics["there"] == [f"got-{i}" for i in range(workers)]
    expected = repr((0, "called", sum(range(300_000)), None))
    assert [Path(tmp_path, f"got-{i}").read_text() for i in range(workers)] == [expected] * workers


def test_nobody_leaves_a_barrier_before_all_have_come(tmp_path: Path) -> None:
    def loop() -> None:
        for step in range(20):
            Path(tmp_path, f"{step}-{rank()}").touch()
            collective.barrier()
            assert len(list(tmp_path.glob(f"{step}-*"))) == 3
        train.report({"steps": step + 1})

    assert trainer(loop, tmp_path).fit().metrics["steps"] == 20


def test_reports_before_a_barrier_have_arrived(tmp_path: Path) -> None:
    def loop() -> None:
        for step in range(3):
            folder = tempfile.mkdtemp(dir=tmp_path)
            Path(folder, f"{rank()}").touch()
            mode = train.CheckpointUploadMode.ASYNC if rank() == 0 else train.CheckpointUploadMode.SYNC
            train.report({"step": step}, train.Checkpoint(folder), checkpoint_upload_mode=mode)
            collective.barrier()
            stored = train.get_context().get_trial_dir()
            assert sorted(os.listdir(f"{stored}/checkpoint_{step + 1:06d}")) == ["0", "1", "2"]

    assert [metrics["step"] for metrics in trainer(loop, tmp_path).fit().metrics_history] == [0, 1, 2]


@pytest.mark.parametrize("call", ["barrier", "broadcast"])
def test_a_death_ends_the_wait_and_the_group_starts_again(tmp_path: Path, call: str) -> None:
    """The others get an exception that unwinds them, whoever waits."""

    def loop() -> None:
        start = 0 if train.get_checkpoint() is None else 1
        if start == 0:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "state").touch()
                train.report({"step": 0}, train.Checkpoint(folder))
            if rank() == 1:
                collective.barrier()
                os.kill(os.getpid(), signal.SIGKILL)
        try:
            collective.barrier()
            collective.barrier() if call == "barrier" else collective.broadcast_from_rank_zero(rank())
        except Exception:
            Path(tmp_path, "swallowed").touch()
        except BaseException as ending:
            Path(tmp_path, f"unwound-{rank()}").write_text(type(ending).__mro__[1].__name__)
            raise
        train.report({"step": 1})

    result = trainer(loop, tmp_path, failures=1).fit()
    assert [metrics["step"] for metrics in result.metrics_history] == [0, 1]
    assert {path.name: path.read_text() for path in tmp_path.glob("unwound-*")} == {
        "unwound-0": "SystemExit",
        "unwound-2": "SystemExit",
    }
    assert not Path(tmp_path, "swallowed").exists()


def returns(worker: int) -> None:
    if worker != 1:
        collective.barrier()


def reports(worker: int) -> None:
    train.report({}) if worker == 1 else collective.barrier()


def broadcasts(worker: int) -> None:
    collective.broadcast_from_rank_zero(1) if worker == 1 else collective.barrier()


@pytest.mark.parametrize(
    ("does", "says"),
    [
        (returns, r"worker 1 returned, but worker [02] called barrier\(\)"),
        (reports, r"worker 0 called barrier\(\) where worker 1 made report number 1"),
        (broadcasts, r"worker 0 called barrier\(\) where worker 1 called broadcast_from_rank_zero\(\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_different_calls_are_an_error_not_a_hang(tmp_path: Path, does: Any, says: str) -> None:
    with pytest.raises(train.TrainingFailedError, match=says):
        trainer(lambda: does(rank()), tmp_path).fit()


def test_a_worker_that_waits_for_the_others_in_its_backend_has_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch's does: without the error both would wait for each other."""
    monkeypatch.setenv("TRIREME_TRAIN_STOP_GRACE_S", "0.2")

    class Waits(train.BackendConfig):
        def leave(self, session: Any) -> None:
            threading.Event().wait()

    run = trainer(lambda: returns(rank()), tmp_path)
    run.backend_config = Waits()
    with pytest.raises(train.TrainingFailedError, match=r"worker 1 returned, but worker [02] called barrier\(\)"):
        run.fit()


def test_what_cannot_be_sent_is_rank_zeros_error(tmp_path: Path) -> None:
    def loop() -> None:
        collective.broadcast_from_rank_zero(threading.Lock())

    with pytest.raises(train.TrainingFailedError, match="worker 0 of 3 raised TypeError"):
        trainer(loop, tmp_path).fit()
