"""Trainers: groups of workers, their reports and checkpoints, and what happens when one dies.

The workers here do not communicate (``BackendConfig()``); test_train_torch.py and test_train_parallel.py do.
"""

# ctest: timeout 300
from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trireme import train

pytestmark = pytest.mark.usefixtures("runtime")


def trainer(function: Any, path: Path, workers: Any = 2, **more: Any) -> train.DataParallelTrainer:
    run = {"storage_path": path, "name": "run", **more.pop("run", {})}
    return train.DataParallelTrainer(
        function,
        backend_config=train.BackendConfig(),
        scaling_config=train.ScalingConfig(num_workers=workers, **more.pop("scaling", {})),
        run_config=train.RunConfig(**run),
        **more,
    )


def save(state: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Reports, each worker with a file of its own."""
    rank = train.get_context().get_world_rank()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"state-{rank}.json").write_text(json.dumps(state))
        train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))


def load() -> dict[str, Any] | None:
    checkpoint = train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return json.loads(Path(folder, f"state-{train.get_context().get_world_rank()}.json").read_text())


def await_both(prefix: str) -> None:
    """Returns when both workers have come here: a report counts once all have made it, so nobody is to die before."""
    Path(f"{prefix}-{train.get_context().get_world_rank()}").touch()
    until = time.monotonic() + 60
    while not all(os.path.exists(f"{prefix}-{rank}") for rank in range(2)) and time.monotonic() < until:
        time.sleep(0.01)


def random_walk(config: dict[str, Any]) -> None:
    """A training whose state depends on all steps before; dies once, where the config says."""
    rank = train.get_context().get_world_rank()
    state = load() or {"step": 0, "value": 0.0}
    while state["step"] < config["steps"]:
        step = state["step"] + 1
        value = state["value"] * 0.9 + np.random.default_rng([rank, step]).random()
        if step == config.get("dies_at") and rank == 1 and not os.path.exists(config["marker"]):
            Path(config["marker"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        state = {"step": step, "value": value}
        save(state, {"step": step, "value": value})
        if "dies_at" in config:
            await_both(f"{config['marker']}-after-{step}")


def test_context_reports_and_checkpoints_of_all_workers(tmp_path: Path) -> None:
    def loop(config: dict[str, Any]) -> None:
        context = train.get_context()
        assert train.get_checkpoint() is None
        assert config == {"a": 1}
        names = (context.get_experiment_name(), context.get_trial_name(), context.get_trial_dir())
        save(
            {},
            {
                "rank": context.get_world_rank(),
                "size": context.get_world_size(),
                "local": context.get_local_rank(),
                "local_size": context.get_local_world_size(),
                "node": context.get_node_rank(),
                "names": names,
                "env": [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")],
                "metadata": context.get_metadata(),
                "pid": os.getpid(),
            },
        )

    seen: list[list[dict[str, Any]]] = []

    class Watch(train.UserCallback):
        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            assert run_context.run_name == "run"
            seen.append(metrics)

    result = trainer(loop, tmp_path, train_loop_config={"a": 1}, metadata={"m": 2}, run={"callbacks": [Watch()]}).fit()
    (by_rank,) = seen
    assert [metrics["rank"] for metrics in by_rank] == [0, 1]
    assert all(metrics["size"] == 2 for metrics in by_rank)
    assert len({metrics["pid"] for metrics in by_rank} | {os.getpid()}) == 3
    assert by_rank[1]["env"][:2] == ["1", "2"]
    assert by_rank[0]["metadata"] == {"m": 2}
    assert tuple(by_rank[0]["names"]) == ("run", "run", str(tmp_path / "run"))
    nodes = [metrics["node"] for metrics in by_rank]
    assert nodes in ([0, 0], [0, 1])
    assert [metrics["local"] for metrics in by_rank] == ([0, 1] if nodes == [0, 0] else [0, 0])
    assert result.metrics["rank"] == 0 and result.error is None
    assert sorted(os.listdir(result.checkpoint.path)) == ["state-0.json", "state-1.json"]


def test_a_killed_worker_changes_nothing_in_the_result(tmp_path: Path) -> None:
    config = {"steps": 5, "marker": str(tmp_path / "died")}
    undisturbed = trainer(random_walk, tmp_path / "a", train_loop_config=config).fit()
    failures: list[dict[int, BaseException]] = []

    class Watch(train.UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, BaseException]) -> None:
            failures.append(worker_exceptions)

    run = {"failure_config": train.FailureConfig(max_failures=1), "callbacks": [Watch()]}
    result = trainer(random_walk, tmp_path / "b", train_loop_config={**config, "dies_at": 4}, run=run).fit()
    assert (tmp_path / "died").exists() and len(failures) == 1 and 1 in failures[0]
    assert result.metrics_history == undisturbed.metrics_history
    assert [metrics["step"] for metrics in result.metrics_history] == [1, 2, 3, 4, 5]
    for rank in range(2):
        states = [Path(r.checkpoint.path, f"state-{rank}.json").read_text() for r in (result, undisturbed)]
        assert states[0] == states[1]


def test_without_a_restart_left_the_death_is_the_error(tmp_path: Path) -> None:
    config = {"steps": 5, "marker": str(tmp_path / "died"), "dies_at": 2}
    with pytest.raises(train.TrainingFailedError, match="worker 1 of 2 died") as raised:
        trainer(random_walk, tmp_path, train_loop_config=config).fit()
    assert list(raised.value.worker_failures) == [1]
    # What it had reached is there, and a new run of the same name goes on from it.
    assert train.Result.from_path(tmp_path / "run").metrics["step"] == 1
    result = trainer(random_walk, tmp_path, train_loop_config=config).fit()
    assert [metrics["step"] for metrics in result.metrics_history] == [1, 2, 3, 4, 5]


def test_an_exception_arrives_with_its_traceback_and_uses_up_the_restarts(tmp_path: Path) -> None:
    def loop(config: dict[str, Any]) -> None:
        with open(config["tries"], "a") as file:
            file.write("x" if train.get_context().get_world_rank() == 0 else "")
        raise ValueError("not today")

    tries = tmp_path / "tries"
    run = {"failure_config": train.FailureConfig(max_failures=2)}
    with pytest.raises(train.TrainingFailedError, match=r"after 2 restart.*raised ValueError: not today") as raised:
        trainer(loop, tmp_path, workers=1, train_loop_config={"tries": str(tries)}, run=run).fit()
    assert tries.read_text() == "xxx"
    assert 'raise ValueError("not today")' in str(raised.value)
    assert isinstance(raised.value.worker_failures[0], ValueError)


def test_uneven_reports_are_an_error_not_a_hang(tmp_path: Path) -> None:
    def loop() -> None:
        for _ in range(2 + train.get_context().get_world_rank()):
            train.report({})

    with pytest.raises(train.TrainingFailedError, match="worker 0 returned, but worker 1 made report number 3"):
        trainer(loop, tmp_path).fit()


def test_only_the_best_checkpoints_are_kept(tmp_path: Path) -> None:
    def loop() -> None:
        for score in (1, 3, 2, 0):
            save({"score": score}, {"score": score})

    keep = train.CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="score")
    result = trainer(loop, tmp_path, workers=1, run={"checkpoint_config": keep}).fit()
    assert [metrics["score"] for _, metrics in result.best_checkpoints] == [0, 3]
    with result.get_best_checkpoint("score", "max").as_directory() as folder:
        assert json.loads(Path(folder, "state-0.json").read_text()) == {"score": 3}
    assert len(list((tmp_path / "run").glob("checkpoint_*"))) == 2


def test_asynchronous_checkpoints_are_complete_at_the_end(tmp_path: Path) -> None:
    def loop() -> None:
        for step in range(4):
            folder = tempfile.mkdtemp()
            Path(folder, "step").write_text(str(step))
            train.report(
                {"step": step},
                checkpoint=train.Checkpoint.from_directory(folder),
                checkpoint_upload_mode=train.CheckpointUploadMode.ASYNC,
            )

    result = trainer(loop, tmp_path, workers=1).fit()
    assert [Path(c.path, "step").read_text() for c, _ in result.best_checkpoints] == ["0", "1", "2", "3"]
    assert [metrics["step"] for metrics in result.metrics_history] == [0, 1, 2, 3]


def test_datasets_are_split_or_given_whole(tmp_path: Path) -> None:
    def loop() -> None:
        shards = {name: train.get_dataset_shard(name) for name in ("train", "test", "rows")}
        with pytest.raises(KeyError, match="rows, test, train"):
            train.get_dataset_shard("nope")
        train.report({name: [int(x) for x in shard.to_numpy()] for name, shard in shards.items()})

    seen: list[list[dict[str, Any]]] = []

    class Watch(train.UserCallback):
        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            seen.append(metrics)

    import trireme

    trainer(
        loop,
        tmp_path,
        datasets={"train": np.arange(5), "test": trireme.put(np.arange(3)), "rows": [7, 8, 9]},
        dataset_config=train.DataConfig(datasets_to_split=["train", "rows"]),
        run={"callbacks": [Watch()]},
    ).fit()
    assert seen == [
        [
            {"train": [0, 2], "test": [0, 1, 2], "rows": [7]},
            {"train": [1, 3], "test": [0, 1, 2], "rows": [8]},
        ]
    ]


def test_a_dataset_that_splits_itself_is_asked_to(tmp_path: Path) -> None:
    class Own:
        def streaming_split(self, n: int, *, equal: bool) -> list[list[int]]:
            assert equal
            return [[rank, n] for rank in range(n)]

    def loop() -> None:
        train.report({"shard": train.get_dataset_shard("d")})

    assert trainer(loop, tmp_path, datasets={"d": Own()}).fit().metrics["shard"] == [0, 2]


def test_an_elastic_run_takes_what_there_is(tmp_path: Path, runtime: Any) -> None:
    def loop() -> None:
        train.report({"size": train.get_context().get_world_size()})

    total = int(runtime.cluster_resources()["CPU"])
    result = trainer(loop, tmp_path, workers=(1, total + 5)).fit()
    assert result.metrics["size"] == total
    with pytest.raises(train.TrainingFailedError, match="no room for the workers"):
        trainer(loop, tmp_path / "b", workers=1, scaling={"resources_per_worker": {"CPU": 10_000}}).fit()


def test_an_elastic_run_goes_on_with_fewer_workers(tmp_path: Path, runtime: Any, monkeypatch: Any) -> None:
    """The first group has two workers; when one dies, something else has taken a place, and one goes on."""
    monkeypatch.setenv("TRIREME_TRAIN_PLACEMENT_TIMEOUT_S", "60")
    total = int(runtime.cluster_resources()["CPU"])

    def loop(config: dict[str, Any]) -> None:
        size = train.get_context().get_world_size()
        sizes = [*(load() or {"sizes": []})["sizes"], size]
        save({"sizes": sizes}, {"sizes": sizes})
        if size == 2:
            await_both(str(tmp_path / "saved"))
            os.kill(os.getpid(), signal.SIGKILL)

    class TakePlace(train.UserCallback):
        """Reserves all CPUs but one as soon as the group has died and its places are free."""

        group: Any = None

        def after_exception(self, run_context: Any, worker_exceptions: Any) -> None:
            self.group = runtime.util.placement_group([{"CPU": 1}] * (total - 1))
            runtime.get(self.group.ready(), timeout=60)
            monkeypatch.setenv("TRIREME_TRAIN_PLACEMENT_TIMEOUT_S", "1")  # the second worker is waited for in vain

    callback = TakePlace()
    result = trainer(
        loop,
        tmp_path,
        workers=(1, 2),
        train_loop_config={},
        run={"failure_config": train.FailureConfig(max_failures=1), "callbacks": [callback]},
    ).fit()
    runtime.util.remove_placement_group(callback.group)
    assert result.metrics["sizes"] == [2, 1]


def test_restore_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    config = {"steps": 2, "marker": str(tmp_path / "died")}
    first = trainer(random_walk, tmp_path, train_loop_config=config, datasets={"d": np.arange(2)}).fit()
    assert train.DataParallelTrainer.can_restore(first.path)
    with pytest.raises(ValueError, match="datasets d"):
        train.DataParallelTrainer.restore(first.path)
    again = train.DataParallelTrainer.restore(
        first.path, train_loop_config={**config, "steps": 4}, datasets={"d": np.arange(2)}
    )
    result = again.fit()
    assert result.path == first.path
    assert [metrics["step"] for metrics in result.metrics_history] == [1, 2, 3, 4]
    with pytest.raises(FileNotFoundError, match="no folder of a training run"):
        train.DataParallelTrainer.restore(tmp_path)


def test_a_run_can_start_from_another_runs_checkpoint(tmp_path: Path) -> None:
    config = {"steps": 2, "marker": str(tmp_path / "died")}
    first = trainer(random_walk, tmp_path / "a", train_loop_config=config).fit()
    second = trainer(
        random_walk, tmp_path / "b", train_loop_config={**config, "steps": 3}, resume_from_checkpoint=first.checkpoint
    ).fit()
    assert [metrics["step"] for metrics in second.metrics_history] == [3]


def test_a_seed_gives_every_worker_its_own_and_the_same_each_time(tmp_path: Path) -> None:
    def loop() -> None:
        train.report({"draw": float(np.random.random())})

    seen: list[float] = []

    class Watch(train.UserCallback):
        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            seen.extend(report["draw"] for report in metrics)

    for name in ("a", "b"):
        trainer(loop, tmp_path / name, seed=5, run={"callbacks": [Watch()]}).fit()
    assert seen[:2] == seen[2:] and seen[0] != seen[1]


def test_nothing_stays_reserved(tmp_path: Path, runtime: Any) -> None:
    total = int(runtime.cluster_resources()["CPU"])
    for name in ("a", "b"):
        assert trainer(lambda: train.report({}), tmp_path / name, workers=total).fit().error is None
    group = runtime.util.placement_group([{"CPU": 1}] * total)
    runtime.get(group.ready(), timeout=60)
    runtime.util.remove_placement_group(group)
