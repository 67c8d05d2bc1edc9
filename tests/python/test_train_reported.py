"""What a training's workers and its caller learn of a run: reported checkpoints, return value, kinds of errors, places."""

# ctest: timeout 300
from __future__ import annotations

import os
import pickle
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from trireme import train, tune
from trireme.train import collective

pytestmark = pytest.mark.usefixtures("runtime")


def trainer(function: Any, path: Path, workers: int = 2, **more: Any) -> train.DataParallelTrainer:
    scaling = {"num_workers": workers, "resources_per_worker": {"CPU": 0.1}, **more.pop("scaling", {})}
    return train.DataParallelTrainer(
        function,
        backend_config=train.BackendConfig(),
        scaling_config=train.ScalingConfig(**scaling),
        run_config=train.RunConfig(storage_path=path, name="run", **more.pop("run", {})),
        **more,
    )


def save(step: int, **more: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "step").write_text(str(step))
        train.report({"step": step}, train.Checkpoint(folder), **more)


def rank() -> int:
    return train.get_context().get_world_rank()


def test_a_worker_sees_the_checkpoints_that_the_run_has(tmp_path: Path) -> None:
    def loop() -> None:
        assert train.get_all_reported_checkpoints() == []
        for step in range(3):
            save(step)
        train.report({"step": 3})
        seen = train.get_all_reported_checkpoints(train.CheckpointConsistencyMode.COMMITTED)
        assert all(reported.status is train.ReportedCheckpointStatus.COMMITTED for reported in seen)
        texts = [Path(reported.checkpoint.path, "step").read_text() for reported in seen]
        Path(tmp_path, f"seen-{rank()}").write_text(repr(([reported.metrics["step"] for reported in seen], texts)))

    keep = train.CheckpointConfig(num_to_keep=2)
    trainer(loop, tmp_path, run={"checkpoint_config": keep}).fit()
    assert [Path(tmp_path, f"seen-{i}").read_text() for i in range(2)] == [repr(([1, 2], ["1", "2"]))] * 2


def test_only_one_worker_asks_and_the_others_come_later(tmp_path: Path) -> None:
    """It waits for their reports, also for its own that are copied in the background, and not for more."""

    def loop() -> None:
        mode = train.CheckpointUploadMode.ASYNC
        folder = tempfile.mkdtemp(dir=tmp_path)
        if rank() == 0:
            train.report({"step": 0}, train.Checkpoint(folder), checkpoint_upload_mode=mode)
            with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
                train.get_all_reported_checkpoints(timeout_s=0.05)
            Path(tmp_path, "asked").touch()
            assert [reported.metrics for reported in train.get_all_reported_checkpoints()] == [{"step": 0}]
        else:
            threading.Event().wait(0.2)
            while not Path(tmp_path, "asked").exists():
                threading.Event().wait(0.01)
            train.report({"step": 0}, train.Checkpoint(folder), checkpoint_upload_mode=mode)
        collective.barrier()
        train.report({"step": 1})

    assert [metrics["step"] for metrics in trainer(loop, tmp_path).fit().metrics_history] == [0, 1]


def test_those_of_an_earlier_start_are_among_them(tmp_path: Path) -> None:
    def loop() -> None:
        if train.get_checkpoint() is None:
            save(0)
            collective.barrier()
            raise RuntimeError("on purpose")
        save(1)
        assert [reported.metrics["step"] for reported in train.get_all_reported_checkpoints()] == [0, 1]

    trainer(loop, tmp_path, run={"failure_config": train.FailureConfig(max_failures=1)}).fit()


def test_outside_of_a_training_it_says_where_it_works() -> None:
    with pytest.raises(RuntimeError, match="get_all_reported_checkpoints works only in a training function"):
        train.get_all_reported_checkpoints()


def test_what_rank_zero_returns_is_in_the_result(tmp_path: Path) -> None:
    result = trainer(lambda: {"rank": rank(), "function": lambda: 5}, tmp_path / "a").fit()
    assert result.return_value["rank"] == 0 and result.return_value["function"]() == 5
    assert trainer(lambda: threading.Lock(), tmp_path / "b").fit().return_value is None


def test_errors_say_whether_workers_failed_or_the_run_itself(tmp_path: Path) -> None:
    def loop() -> None:
        raise ValueError(f"of {rank()}")

    with pytest.raises(train.WorkerGroupError) as failed:
        trainer(loop, tmp_path / "a").fit()
    assert isinstance(failed.value, train.TrainingFailedError)
    assert {str(error) for error in failed.value.worker_failures.values()} <= {"of 0", "of 1"}
    with pytest.raises(train.ControllerError, match="no room for the workers") as refused:
        trainer(loop, tmp_path / "b", scaling={"resources_per_worker": {"CPU": 10_000}}).fit()
    assert refused.value.controller_failure is refused.value.__cause__
    for error in (failed.value, refused.value):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error) and str(copy) == str(error)


def test_workers_go_where_the_labels_are(tmp_path: Path, runtime: Any) -> None:
    label, value = next(iter(runtime.nodes()[-1]["Labels"].items()))

    def loop() -> None:
        train.report({"node": train.get_context().get_node_rank()})

    trainer(loop, tmp_path / "a", scaling={"label_selector": {label: value}}).fit()
    trainer(loop, tmp_path / "b", scaling={"label_selector": [{}, {label: value}]}).fit()
    with pytest.raises(train.ControllerError, match="no_such_place"):
        trainer(loop, tmp_path / "c", scaling={"label_selector": {"zone": "no_such_place"}}).fit()


def test_a_scaling_says_what_it_takes() -> None:
    scaling = train.ScalingConfig(num_workers=(1, 3), resources_per_worker={"CPU": 2, "disk": 1}, trainer_resources={"CPU": 1})
    assert scaling.total_resources == {"CPU": 7, "disk": 3}
    assert scaling.additional_resources_per_worker == {"disk": 1}
    with pytest.raises(ValueError, match="lists 1 selectors for 2 workers"):
        train.ScalingConfig(num_workers=2, label_selector=[{"a": "b"}])


def test_without_workers_the_function_runs_here(tmp_path: Path) -> None:
    here = {"calls": 0}

    def loop(config: dict[str, Any]) -> int:
        here["calls"] += 1
        begin = 0 if train.get_checkpoint() is None else 2
        assert train.get_context().get_world_size() == 1 and os.environ["RANK"] == "0"
        assert collective.broadcast_from_rank_zero(config["a"]) == 1
        collective.barrier()
        assert len(train.get_dataset_shard("rows")) == 3
        for step in range(begin, begin + 2):
            save(step, checkpoint_upload_mode=train.CheckpointUploadMode(config["mode"]))
        seen = train.get_all_reported_checkpoints()
        assert [reported.metrics["step"] for reported in seen] == list(range(begin + 2))
        if begin == 2:
            raise LookupError("as it is")
        return 7

    before = dict(os.environ)
    run = trainer(loop, tmp_path, 0, train_loop_config={"a": 1, "mode": "sync"}, datasets={"rows": [1, 2, 3]}, seed=1)
    result = run.fit()
    assert (here["calls"], result.return_value, result.metrics["step"]) == (1, 7, 1)
    assert Path(result.checkpoint.path, "step").read_text() == "1"
    with pytest.raises(LookupError, match="as it is"):
        run.fit()
    assert [metrics["step"] for metrics in train.Result.from_path(result.path).metrics_history] == [0, 1, 2, 3]
    assert dict(os.environ) == before
    with pytest.raises(RuntimeError, match="only in a training function"):
        train.get_context()


def test_without_workers_the_backend_is_joined_and_left(tmp_path: Path) -> None:
    seen: list[str] = []

    class Notes(train.BackendConfig):
        def join(self, session: Any, meeting: Any) -> None:
            seen.append("join")

        def leave(self, session: Any) -> None:
            seen.append("leave")

    def loop() -> None:
        seen.append("loop")
        with pytest.raises(RuntimeError, match="trains already"):
            trainer(lambda: None, tmp_path / "b", 0).fit()
        raise ValueError("on purpose")

    run = trainer(loop, tmp_path / "a", 0)
    run.backend_config = Notes()
    with pytest.raises(ValueError, match="on purpose"):
        run.fit()
    assert seen == ["join", "loop", "leave"]
    with pytest.raises(ValueError, match="a Tune trial needs a worker"):
        tune.Tuner(trainer(loop, tmp_path / "c", 0)).fit()
