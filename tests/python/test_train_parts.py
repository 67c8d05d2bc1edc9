"""Train without a runtime: configurations, checkpoints, the run's folder, shards."""

# ctest: one rank
from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from trireme import train
from trireme.train._backend import WorkerFacts
from trireme.train._group import places
from trireme.train._session import Place, RunInfo, Session
from trireme.train._storage import RunFolder


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: train.ScalingConfig(num_workers=-1), "num_workers"),
        (lambda: train.ScalingConfig(num_workers=(0, 2)), "num_workers"),
        (lambda: train.ScalingConfig(num_workers=(3, 2)), "num_workers"),
        (lambda: train.ScalingConfig(num_workers=1.5), "num_workers"),
        (lambda: train.ScalingConfig(placement_strategy="NEAR"), "STRICT_PACK"),
        (lambda: train.ScalingConfig(resources_per_worker={"CPU": -1}), "CPU"),
        (lambda: train.ScalingConfig(use_gpu=True, resources_per_worker={"GPU": 0}), "0 GPUs"),
        (lambda: train.ScalingConfig(resources_per_worker={"GPU": 1}), "use_gpu=True"),
        (lambda: train.FailureConfig(max_failures=-2), "max_failures"),
        (lambda: train.FailureConfig(max_failures=1, fail_fast=True), "exclude"),
        (lambda: train.CheckpointConfig(num_to_keep=0), "num_to_keep"),
        (lambda: train.CheckpointConfig(checkpoint_score_order="best"), "'max' or 'min'"),
        (lambda: train.RunConfig(name="a/b"), "name"),
        (lambda: train.RunConfig(storage_path="s3://bucket"), "storage_path"),
        (lambda: train.DataConfig(datasets_to_split="train"), "datasets_to_split"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(make: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_worker_resources_follow_use_gpu() -> None:
    assert train.ScalingConfig().worker_resources() == {"CPU": 1}
    assert train.ScalingConfig(use_gpu=True).worker_resources() == {"CPU": 1, "GPU": 1}
    wanted = {"CPU": 0, "GPU": 0.5, "bandwidth": 2}
    assert train.ScalingConfig(use_gpu=True, resources_per_worker=wanted).worker_resources() == {
        "GPU": 0.5,
        "bandwidth": 2,
    }


def test_trainer_refuses_what_is_not_its_own(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="2 arguments"):
        train.DataParallelTrainer(lambda a, b: None)
    with pytest.raises(ValueError, match="takes no argument"):
        train.DataParallelTrainer(lambda: None, train_loop_config={"a": 1})
    with pytest.raises(TypeError, match="ScalingConfig"):
        train.DataParallelTrainer(lambda: None, scaling_config=2)
    trainer = train.DataParallelTrainer(lambda: None, run_config=train.RunConfig(storage_path=tmp_path, stop={"a": 1}))
    with pytest.raises(ValueError, match="stop only work under trireme.tune.Tuner"):
        trainer.fit()
    sync = train.SyncConfig(sync_artifacts=True)
    trainer = train.DataParallelTrainer(lambda: None, run_config=train.RunConfig(storage_path=tmp_path, sync_config=sync))
    with pytest.raises(ValueError, match="sync_config.sync_artifacts only work under trireme.tune.Tuner"):
        trainer.fit()


def test_functions_of_a_worker_say_where_they_work() -> None:
    for call in (lambda: train.report({}), train.get_context, train.get_checkpoint, train.get_dataset_shard):
        with pytest.raises(RuntimeError, match="only in a training function"):
            call()


class TestCheckpoint:
    """A folder and its metadata."""

    def test_is_the_folder_itself_or_a_copy(self, tmp_path: Path) -> None:
        (tmp_path / "c/sub").mkdir(parents=True)
        (tmp_path / "c/sub/a.bin").write_bytes(b"abc")
        checkpoint = train.Checkpoint.from_directory(tmp_path / "c")
        with checkpoint.as_directory() as folder:
            assert folder == str(tmp_path / "c")
        copied = checkpoint.to_directory(tmp_path / "d")
        assert Path(copied, "sub/a.bin").read_bytes() == b"abc"
        assert os.path.isdir(checkpoint.path)

    def test_metadata_is_replaced_and_added_to(self, tmp_path: Path) -> None:
        checkpoint = train.Checkpoint(tmp_path)
        assert checkpoint.get_metadata() == {}
        checkpoint.set_metadata({"a": 1})
        checkpoint.update_metadata({"b": [1, 2]})
        assert train.Checkpoint(tmp_path).get_metadata() == {"a": 1, "b": [1, 2]}
        checkpoint.set_metadata({"c": 3})
        assert checkpoint.get_metadata() == {"c": 3}
        with pytest.raises(TypeError):
            checkpoint.set_metadata({"d": object()})
        assert checkpoint.get_metadata() == {"c": 3}
        assert os.listdir(tmp_path) == [".metadata.json"]

    def test_goes_through_memory(self, tmp_path: Path) -> None:
        source = tmp_path / "c"
        (source / "sub").mkdir(parents=True)
        (source / "sub/a.bin").write_bytes(b"abc")
        (source / "empty").write_bytes(b"")
        train.Checkpoint(source).set_metadata({"a": 1})
        files = train.Checkpoint(source).to_files()
        again = train.Checkpoint.from_files(files, tmp_path / "d")
        assert (tmp_path / "d/sub/a.bin").read_bytes() == b"abc"
        assert (tmp_path / "d/empty").exists()
        assert again.get_metadata() == {"a": 1}
        with pytest.raises(ValueError, match="outside"):
            train.Checkpoint.from_files({"../x": np.zeros(1, np.uint8)}, tmp_path / "e")

    def test_a_missing_folder_is_an_error_that_says_why(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="does not exist"):
            train.Checkpoint.from_directory(tmp_path / "nope")
        with pytest.raises(FileNotFoundError, match="num_to_keep"):
            train.Checkpoint(tmp_path / "nope").get_metadata()


def fill(folder: RunFolder, scores: list[float]) -> None:
    for score in scores:
        name = f"checkpoint_{folder.reports + 1:06d}"
        (folder.path / name).mkdir()
        folder.commit({"score": score}, name)


def present(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_dir())


class TestRunFolder:
    """Which checkpoints are kept, and what a restart finds."""

    def test_keeps_the_best_and_the_latest(self, tmp_path: Path) -> None:
        config = train.CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="score")
        folder = RunFolder(tmp_path, config)
        fill(folder, [0.5, 0.9, 0.7, 0.1])
        # 0.1 is the worst of all, but a restart goes on from it.
        assert present(tmp_path) == ["checkpoint_000002", "checkpoint_000004"]
        fill(folder, [0.8])
        assert present(tmp_path) == ["checkpoint_000002", "checkpoint_000005"]
        result = train.Result.from_path(tmp_path)
        assert [metrics["score"] for _, metrics in result.best_checkpoints] == [0.8, 0.9]
        assert result.get_best_checkpoint("score", "max").path.endswith("checkpoint_000002")
        assert result.get_best_checkpoint("score", "min").path.endswith("checkpoint_000005")
        assert result.checkpoint.path.endswith("checkpoint_000005")
        assert len(result.metrics_history) == 5

    def test_order_min_and_a_score_that_is_no_number(self, tmp_path: Path) -> None:
        config = train.CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="score", checkpoint_score_order="min")
        fill(RunFolder(tmp_path, config), [0.5, float("nan"), 0.2, 0.4])
        assert present(tmp_path) == ["checkpoint_000003", "checkpoint_000004"]

    def test_without_a_score_the_newest_are_kept(self, tmp_path: Path) -> None:
        fill(RunFolder(tmp_path, train.CheckpointConfig(num_to_keep=2)), [3, 2, 1])
        assert present(tmp_path) == ["checkpoint_000002", "checkpoint_000003"]

    def test_a_missing_score_attribute_is_an_error(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path, train.CheckpointConfig(checkpoint_score_attribute="loss"))
        folder.commit({"score": 1}, None)  # without a checkpoint nothing is scored
        with pytest.raises(KeyError, match="no metric 'loss' among the reported ones: score"):
            fill(folder, [1])

    def test_a_restart_forgets_what_came_after_the_checkpoint(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path, train.CheckpointConfig())
        fill(folder, [1, 2])
        folder.commit({"score": 3}, None)
        (tmp_path / "checkpoint_000004").mkdir()  # half written when the worker died
        again = RunFolder(tmp_path, train.CheckpointConfig())
        assert again.reports == 3
        again.roll_back()
        assert again.reports == 2
        assert present(tmp_path) == ["checkpoint_000001", "checkpoint_000002"]
        assert [metrics["score"] for metrics in train.Result.from_path(tmp_path).metrics_history] == [1, 2]

    def test_a_report_cut_off_by_a_death_is_left_out(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path, train.CheckpointConfig())
        folder.commit({"score": np.float32(0.5), "n": np.int64(2), "list": np.arange(2)}, None)
        with open(tmp_path / "result.json", "a") as file:
            file.write('{"score": 0.')
        assert RunFolder(tmp_path, train.CheckpointConfig()).history == [{"score": 0.5, "n": 2, "list": [0, 1]}]

    def test_a_folder_that_is_no_run_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no run's folder"):
            train.Result.from_path(tmp_path)


class TestShards:
    """A worker's part of the data."""

    def test_batches_of_all_workers_are_the_global_batch(self) -> None:
        data = {"x": np.arange(24), "y": np.arange(24) * 2.0}
        whole = list(train.DataShard(data).iter_batches(batch_size=6))
        parts = [list(train.DataShard(data, rank, 3).iter_batches(batch_size=2)) for rank in range(3)]
        assert len(whole) == len(parts[0]) == 4
        for step, batch in enumerate(whole):
            together = np.sort(np.concatenate([part[step]["x"] for part in parts]))
            np.testing.assert_array_equal(together, batch["x"])
        np.testing.assert_array_equal(parts[1][0]["y"], parts[1][0]["x"] * 2)

    @pytest.mark.parametrize("make", [np.arange, lambda n: list(range(n)), lambda n: (i for i in range(n))])
    def test_every_kind_of_dataset_is_split_alike(self, make: object) -> None:
        equal = [list(train.DataShard(make(11), rank, 3)) for rank in range(3)]
        assert equal == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
        uneven = [list(train.DataShard(make(11), rank, 3, equal=False)) for rank in range(3)]
        assert uneven == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]

    def test_arrays_are_not_copied(self) -> None:
        data = np.arange(12)
        shard = train.DataShard(data, 1, 2)
        assert np.shares_memory(shard.to_numpy(), data)
        assert all(np.shares_memory(batch, data) for batch in shard.iter_batches(batch_size=2))

    def test_shuffling_is_a_permutation_given_by_the_seed(self) -> None:
        def read(data: object, seed: int) -> list[int]:
            batches = train.DataShard(data).iter_batches(
                batch_size=3, local_shuffle_buffer_size=4, local_shuffle_seed=seed
            )
            return [int(x) for batch in batches for x in batch]

        for make in (lambda: np.arange(20), lambda: (i for i in range(20))):
            assert read(make(), 1) == read(make(), 1) != read(make(), 2)
            assert sorted(read(make(), 1)) == list(range(20))

    def test_last_batch_and_whole_shard(self) -> None:
        shard = train.DataShard(np.arange(10))
        assert [len(batch) for batch in shard.iter_batches(batch_size=4)] == [4, 4, 2]
        assert [len(batch) for batch in shard.iter_batches(batch_size=4, drop_last=True)] == [4, 4]
        assert [len(batch) for batch in shard.iter_batches(batch_size=None)] == [10]
        stream = train.DataShard(iter(range(10)))
        assert [len(batch) for batch in stream.iter_batches(batch_size=4, drop_last=True)] == [4, 4]

    def test_rows_that_are_dicts_become_columns(self) -> None:
        rows = [{"x": i, "y": [i, i]} for i in range(4)]
        (batch,) = train.DataShard(rows).iter_batches(batch_size=4)
        np.testing.assert_array_equal(batch["y"], [[0, 0], [1, 1], [2, 2], [3, 3]])

    @pytest.mark.parametrize(
        ("data", "kind", "says"),
        [
            ({"a": np.arange(3), "b": np.arange(4)}, ValueError, "equally many rows"),
            ({}, ValueError, "at least one"),
            (np.float64(3), ValueError, "scalar"),
            (3, TypeError, "not int"),
            ("text", TypeError, "not str"),
        ],
    )
    def test_what_is_no_dataset_is_refused(self, data: object, kind: type, says: str) -> None:
        with pytest.raises(kind, match=says):
            train.DataShard(data)


def test_ranks_follow_the_nodes() -> None:
    facts = [WorkerFacts(node, node, "", pid, ()) for pid, node in enumerate(["a", "a", "b", "b", "b", "c"])]
    found = places(facts)
    assert [place.local_rank for place in found] == [0, 1, 0, 1, 2, 0]
    assert [place.local_world_size for place in found] == [2, 2, 3, 3, 3, 1]
    assert [place.node_rank for place in found] == [0, 0, 1, 1, 1, 2]


class TestSession:
    """Reports on their way out of a worker."""

    def session(self, path: Path) -> Session:
        run = RunInfo("e", "t", "i", str(path), str(path.parent), {"CPU": 1})
        return Session(Place(0, 1, 0, 1, 0), run, None, {}, first_report=3)

    def report(self, session: Session, source: Path | None, mode: str, **more: object) -> None:
        checkpoint = train.Checkpoint(source) if source else None
        arguments = {"folder": None, "delete": None, "upload": None, **more}
        session.report({"a": 1}, checkpoint, mode=train.CheckpointUploadMode(mode), **arguments)

    def collect(self, session: Session) -> tuple[threading.Thread, list[object]]:
        """What the controller does: takes events to the end."""
        events: list[object] = []

        def take() -> None:
            while (event := session.next()) != "end":
                events.append(event)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        return thread, events

    def finish(self, session: Session, thread: threading.Thread) -> None:
        session.finish()
        session.end("end")
        thread.join(60)
        assert not thread.is_alive()

    def test_a_report_returns_once_it_has_been_taken(self, tmp_path: Path) -> None:
        session = self.session(tmp_path / "run")
        done = threading.Event()

        def work() -> None:
            self.report(session, None, "sync")
            done.set()
            session.end("end")

        threading.Thread(target=work, daemon=True).start()
        assert session.next().index == 3
        assert not done.is_set()  # handed out, but it might still be lost on its way
        assert session.next() == "end"
        assert done.is_set()

    def test_a_checkpoint_is_copied_before_report_returns(self, tmp_path: Path) -> None:
        session = self.session(tmp_path / "run")
        thread, events = self.collect(session)
        (tmp_path / "c").mkdir()
        (tmp_path / "c/a").write_text("hello")
        self.report(session, tmp_path / "c", "sync")
        assert (tmp_path / "run/checkpoint_000003/a").read_text() == "hello"
        self.finish(session, thread)
        assert [(event.index, event.folder) for event in events] == [(3, str(tmp_path / "run/checkpoint_000003"))]

    def test_asynchronous_copies_keep_their_order_and_the_training_goes_on(self, tmp_path: Path) -> None:
        session = self.session(tmp_path / "run")
        thread, events = self.collect(session)
        (tmp_path / "c").mkdir()
        let_go = threading.Event()

        def upload(checkpoint: train.Checkpoint, target: str) -> train.Checkpoint:
            assert let_go.wait(60)
            return train.Checkpoint(checkpoint.to_directory(target))

        self.report(session, tmp_path / "c", "async", upload=upload)
        later = threading.Thread(target=lambda: self.report(session, None, "sync"), daemon=True)
        later.start()
        assert not events  # report() has returned and the copy has not been made
        let_go.set()
        later.join(60)
        self.finish(session, thread)
        assert [event.index for event in events] == [3, 4]

    def test_an_asynchronous_copy_deletes_its_source(self, tmp_path: Path) -> None:
        session = self.session(tmp_path / "run")
        thread, _ = self.collect(session)
        (tmp_path / "c").mkdir()
        (tmp_path / "c/a").write_text("hello")
        self.report(session, tmp_path / "c", "async")
        self.finish(session, thread)
        assert not (tmp_path / "c").exists()
        assert (tmp_path / "run/checkpoint_000003/a").exists()

    def test_a_failed_copy_is_raised_by_the_next_report_or_at_the_end(self, tmp_path: Path) -> None:
        session = self.session(tmp_path / "run")
        self.report(session, tmp_path / "nope", "async")
        with pytest.raises(RuntimeError, match="background failed"):
            session.finish()
        with pytest.raises(RuntimeError, match="background failed"):
            self.report(session, None, "sync")

    def test_without_upload_it_stays(self, tmp_path: Path) -> None:
        session = self.session(tmp_path / "run")
        thread, events = self.collect(session)
        (tmp_path / "c").mkdir()
        self.report(session, tmp_path / "c", "no_upload")
        self.finish(session, thread)
        assert [event.folder for event in events] == [str(tmp_path / "c")]

    def test_a_folder_name_is_used_once(self, tmp_path: Path) -> None:
        session = self.session(tmp_path / "run")
        thread, _ = self.collect(session)
        self.report(session, None, "sync", folder="epoch-1")
        with pytest.raises(ValueError, match="no earlier report used"):
            self.report(session, None, "sync", folder="epoch-1")
        with pytest.raises(ValueError, match="without '/'"):
            self.report(session, None, "sync", folder="../x")
        self.finish(session, thread)


def test_dataframe_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="python3-pandas"):
        _ = train.Result({"a": 1}, None, metrics_history=[{"a": 1}]).metrics_dataframe


def test_dataframe_has_a_row_for_each_report() -> None:
    pytest.importorskip("pandas")
    frame = train.Result(None, None, metrics_history=[{"a": 1, "b": {"c": 2}}, {"a": 3}]).metrics_dataframe
    assert list(frame["a"]) == [1, 3] and frame["b/c"][0] == 2


def test_result_json_is_one_object_a_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, train.CheckpointConfig())
    for value in (1, 2):
        folder.commit({"a": value}, None)
    assert [json.loads(line) for line in (tmp_path / "result.json").read_text().splitlines()] == [{"a": 1}, {"a": 2}]
