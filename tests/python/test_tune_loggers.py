"""What a search writes: CSV, JSON, TensorBoard events, tables."""

# ctest: one rank
from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import pickle
import pty
import re
import shutil
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest

from trireme._progress import display
from trireme.train import CheckpointConfig
from trireme.tune import Callback
from trireme.tune.experiment.trial import Trial, flatten
from trireme.tune.logger import CSVLoggerCallback, JsonLoggerCallback, LoggerCallback, TBXLoggerCallback
from trireme.tune.logger.event_file import EventFileWriter, crc32c, masked_crc, read_events
from trireme.tune.progress.reporter import CLIReporter, ProgressReporter, _headings, html
from trireme.tune.progress.table import fitting, table
from trireme.tune.progress.terminal import wrapped
from trireme.tune.search import sample
from tune_inline import Curve, search


def test_crc32c_has_the_published_values() -> None:
    """RFC 3720, B.4."""
    assert crc32c(b"\0" * 32) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283
    assert 0 <= masked_crc(b"abc") < 2**32


def test_event_file_has_the_bytes_that_tensorboard_reads(tmp_path: Path) -> None:
    """One record taken apart by hand."""
    writer = EventFileWriter(str(tmp_path))
    writer.add_scalars({"ab": 1.5}, step=300, wall_time=2.0)
    writer.close()
    data = Path(writer.path).read_bytes()
    first = int.from_bytes(data[:8], "little")
    assert data[12 + 9 : 12 + first] == b"\x1a\x0dbrain.Event:2"
    record = data[12 + first + 4 :]
    payload = record[12:-4]
    assert int.from_bytes(record[:8], "little") == len(payload)
    assert payload == (
        b"\x09\x00\x00\x00\x00\x00\x00\x00\x40"  # wall_time: double 2.0
        b"\x10\xac\x02"  # step: varint 300
        b"\x2a\x0b"  # summary, 11 bytes
        b"\x0a\x09"  # value, 9 bytes
        b"\x0a\x02ab"  # tag
        b"\x15\x00\x00\xc0\x3f"  # simple_value: float 1.5
    )


def test_event_file_reads_back(tmp_path: Path) -> None:
    writer = EventFileWriter(str(tmp_path))
    for step in range(20):
        writer.add_scalars({"loss": 1 / (step + 1), "ü/acc": float(step), "huge": 1e300, "nan": math.nan}, step * 1000)
    writer.close()
    head, *events = read_events(writer.path)
    assert head.version == "brain.Event:2"
    assert [event.step for event in events] == [1000 * step for step in range(20)]
    assert events[3].scalars["loss"] == 0.25
    assert events[3].scalars["ü/acc"] == 3
    assert events[3].scalars["huge"] == math.inf
    assert math.isnan(events[3].scalars["nan"])
    broken = bytearray(Path(writer.path).read_bytes())
    broken[60] ^= 1
    Path(writer.path).write_bytes(broken)
    with pytest.raises(ValueError, match="checksum"):
        list(read_events(writer.path))


def test_event_file_is_what_tensorboard_parses(tmp_path: Path) -> None:
    """Only where TensorBoard is installed."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    writer = EventFileWriter(str(tmp_path))
    writer.add_scalars({"a": 2.5}, 7)
    writer.close()
    events = list(loader.LegacyEventFileLoader(writer.path).Load())
    assert events[1].step == 7
    assert events[1].summary.value[0].simple_value == 2.5


class Rich(Curve):
    """Reports values of many kinds."""

    def step(self) -> dict[str, Any]:
        return {
            **super().step(),
            "nested": {"x": np.float32(0.5), "deep": {"y": 2}},
            "array": np.arange(2),
            "text": 'a"b,c',
        }


def test_the_files_of_a_trial(tmp_path: Path) -> None:
    space = {"slope": sample.grid_search([1.0, 2.0]), "steps": 3, "inner": {"a": 1}}
    loggers = [CSVLoggerCallback(), JsonLoggerCallback(), TBXLoggerCallback()]
    trials = search(tmp_path / "s", space, trainable=Rich, callbacks=loggers)
    folder = Path(trials[1].path)
    lines = [json.loads(line) for line in (folder / "result.json").read_text().splitlines()]
    assert [line["score"] for line in lines] == [2, 4, 6]
    assert lines[2]["nested"] == {"x": 0.5, "deep": {"y": 2}}
    assert lines[2]["array"] == [0, 1]
    assert lines[2]["config"] == json.loads((folder / "params.json").read_text())
    assert pickle.loads((folder / "params.pkl").read_bytes()) == trials[1].config
    assert [line["done"] for line in lines] == [False, False, True]
    with open(folder / "progress.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == [2, 4, 6]
    assert [row["training_iteration"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["nested/deep/y"] == "2"
    assert rows[0]["text"] == 'a"b,c'
    assert rows[0]["config/inner/a"] == "1"
    (file,) = folder.glob("events.out.tfevents.*")
    events = list(read_events(str(file)))[1:]
    assert [event.scalars["ray/tune/score"] for event in events] == [2, 4, 6]
    assert events[0].scalars["ray/tune/nested/x"] == 0.5
    assert [event.step for event in events] == [1, 2, 3]


class Recorder(Callback):
    """Writes down which hooks were called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        self.calls.append(("setup", str(total_num_samples)))

    def on_trial_start(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.calls.append(("start", str(trial.index)))

    def on_trial_restore(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.calls.append(("restore", str(trial.index)))

    def on_trial_result(self, iteration: int, trials: Any, trial: Trial, result: Any, **info: Any) -> None:
        self.calls.append(("result", f"{trial.index}:{result['at']}"))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.calls.append(("complete", str(trial.index)))

    def on_trial_recover(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.calls.append(("recover", str(trial.index)))

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.calls.append(("error", str(trial.index)))

    def on_checkpoint(self, iteration: int, trials: Any, trial: Trial, checkpoint: Any, **info: Any) -> None:
        self.calls.append(("checkpoint", os.path.basename(checkpoint.path)))

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        self.calls.append(("end", str(len(trials))))


def test_hooks_come_in_order(tmp_path: Path) -> None:
    from trireme.train import FailureConfig

    recorder = Recorder()
    search(
        tmp_path / "s",
        {"slope": 1.0, "steps": 4, "fail_at": 3},
        callbacks=[recorder],
        failure=FailureConfig(max_failures=1),
        checkpoint=CheckpointConfig(checkpoint_frequency=1),
    )
    assert recorder.calls == [
        ("setup", "1"),
        ("start", "0"),
        ("checkpoint", "checkpoint_000000"),
        ("result", "0:1"),
        ("checkpoint", "checkpoint_000001"),
        ("result", "0:2"),
        ("recover", "0"),
        ("start", "0"),
        ("restore", "0"),
        ("error", "0"),
        ("end", "1"),
    ]


def test_logger_callback_maps_hooks(tmp_path: Path) -> None:
    class Mine(LoggerCallback):
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def log_trial_start(self, trial: Trial) -> None:
            self.calls.append("start")

        def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
            self.calls.append(result["score"])

        def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
            self.calls.append(failed)

    mine = Mine()
    search(tmp_path / "s", {"slope": 1.0, "steps": 2}, callbacks=[mine])
    assert mine.calls == ["start", 1.0, 2.0, False]


def test_a_callback_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="callbacks holds 5"):
        search(tmp_path / "s", {"slope": 1.0}, callbacks=[5])


def test_table() -> None:
    lines = table(["trial", "loss"], [["a", "1.5"], ["bcd", ""]])
    assert lines == ["trial  loss", "-----------", "a       1.5", "bcd"]


def test_reporter_prints_plain_into_a_file(tmp_path: Path) -> None:
    out = io.StringIO()
    reporter = CLIReporter(
        file=out, max_report_frequency=0, max_progress_rows=2, sort_by_metric=True, total_samples=4, infer_limit=0
    )
    reporter.setup(title="mine", metric="score", mode="max")
    search(tmp_path / "s", {"slope": sample.grid_search([1.0, 5.0, 2.0]), "steps": 2}, reporter=reporter)
    text = out.getvalue()
    assert "\x1b" not in text
    last = text[text.rindex("== mine: 3 of 4 trials (3 TERMINATED)") :].splitlines()
    assert "slope=5.0" in last[2]
    assert last[3].split()[:3] == ["trial", "status", "slope"]
    assert last[3].split()[-1] == "score"  # none of the others that trials report
    assert last[5].split()[2] == "5.0000"
    assert last[6].split()[2] == "2.0000"
    assert last[7] == "... 1 more"


@contextlib.contextmanager
def on_terminal(width: int) -> Iterator[tuple[TextIO, bytearray]]:
    """A terminal so wide, and what was written to it, all of it once it is closed."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, width))
    seen = bytearray()

    def drain() -> None:
        with contextlib.suppress(OSError):  # EIO: the terminal is closed
            while piece := os.read(ours, 65536):
                seen.extend(piece)

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        with open(theirs, "w") as terminal:
            yield terminal, seen
    finally:
        reader.join()
        os.close(ours)


def test_reporter_redraws_in_place_on_a_terminal(tmp_path: Path) -> None:
    with on_terminal(100) as (terminal, seen):
        reporter = CLIReporter(file=terminal, max_report_frequency=0)
        reporter.setup(title="mine")
        search(tmp_path / "s", {"slope": 1.0, "steps": 2}, reporter=reporter)
    text = seen.decode()
    first = text.index("== mine")
    shown = text[first : text.index("== mine", first + 1)].count("\r\n")
    assert f"\x1b[{shown}F\x1b[J== mine" in text


def test_what_workers_print_comes_above_the_table(tmp_path: Path) -> None:
    """Through the display that prints their lines; the table stays whole beneath."""

    class Says(Callback):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            with display().aside():
                terminal.write("(worker) here\n")
                terminal.flush()

    with on_terminal(100) as (terminal, written):
        reporter = CLIReporter(file=terminal, max_report_frequency=1000)
        reporter.setup(title="mine")
        search(tmp_path / "s", {"slope": 1.0, "steps": 2}, reporter=reporter, callbacks=[Says()])
    seen = play(written.decode())
    assert seen.count("(worker) here") == 2
    tables = [at for at, line in enumerate(seen) if line.startswith("== mine")]
    assert len(tables) == 1 and tables[0] > 1  # one table, beneath what was printed


def play(text: str) -> list[str]:
    """What stands on the terminal after the text, for the sequences that are used."""
    rows, at = [""], 0
    for up, erase, newline, other in re.findall(r"\x1b\[(\d+)F|(\x1b\[J)|(\r?\n)|([^\x1b\r\n]+)", text):
        if up:
            at -= int(up)
        elif erase:
            del rows[at + 1 :]
            rows[at] = ""
        elif newline:
            at += 1
            rows += [""] * (at + 1 - len(rows))
        else:
            rows[at] = other
    return rows


def test_a_table_shows_the_columns_that_fit_and_names_the_others() -> None:
    headings, rows = ["trial", "status", "lr", "loss"], [["a" * 10, "RUNNING", "0.1", "1.25"]]
    assert fitting(headings, rows, None) == [0, 1, 2, 3]
    assert fitting(headings, rows, 10 + 2 + 7 + 2 + 3 + 2 + 4) == [0, 1, 2, 3]
    assert fitting(headings, rows, 10 + 2 + 7 + 2 + 3 + 2 + 3) == [0, 1, 2]
    assert fitting(headings, rows, 25, first=[0, 1, 3]) == [0, 1, 3]
    assert fitting(headings, rows, 3) == [0]
    assert wrapped(["", "abcdef", "abc"], 3) == ["", "abc", "def", "abc"]


def test_headings_are_as_short_as_they_can_be() -> None:
    assert _headings(["a/lr", "b/width"]) == {"a/lr": "lr", "b/width": "width"}
    assert _headings(["a/lr", "b/lr", "c"]) == {"a/lr": "a/lr", "b/lr": "b/lr", "c": "c"}


def drawn(tmp_path: Path, width: int) -> list[str]:
    """The last table on a terminal so wide, as it stands there."""
    with on_terminal(width) as (terminal, seen):
        reporter = CLIReporter(file=terminal, max_report_frequency=1000, print_intermediate_tables=False)
        reporter.setup(title="mine", metric="score", mode="max")
        search(tmp_path / str(width), {"slope": 1.0, "steps": 2}, reporter=reporter)
    lines = play(seen.decode())
    assert all(len(line) < width for line in lines)
    return lines


def test_nothing_is_cut_off_on_a_narrow_terminal(tmp_path: Path) -> None:
    wide = drawn(tmp_path, 300)
    assert not any("no room" in line for line in wide)
    narrow = drawn(tmp_path, 45)
    heading = next(line for line in narrow if line.startswith("trial"))
    assert heading.split()[:2] == ["trial", "status"] and "score" in heading
    (left_out,) = (line for line in narrow if line.startswith("(no room for "))
    assert "total time (s)" in left_out + narrow[narrow.index(left_out) + 1]


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun")
@pytest.mark.parametrize("onto", ["a pipe", "a terminal"])
def test_the_width_is_that_of_where_mpirun_writes(onto: str) -> None:
    """Open MPI's ranks write on a terminal of their own, without a size."""
    code = "import sys; from trireme.tune.progress.terminal import columns; print(sys.stdout.isatty(), columns(sys.stdout))"
    command = ["mpirun", "--allow-run-as-root", "-n", "1", sys.executable, "-c", code]
    if onto == "a pipe":
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout
        assert out.split() in (["True", "None"], ["False", "None"])
        return
    with on_terminal(173) as (terminal, seen):
        subprocess.run(command, stdout=terminal, timeout=60, check=True)
    assert seen.decode().split() in (["True", "173"], ["False", "None"])


def test_own_reporter_is_asked(tmp_path: Path) -> None:
    class Mine(ProgressReporter):
        interval_s = 0
        reports: list[tuple[int, bool]] = []

        def should_report(self, trials: Any, done: bool = False) -> bool:
            return done or len(self.reports) < 1

        def report(self, trials: Any, done: bool, *sys_info: str) -> None:
            self.reports.append((len(trials), done))

    search(tmp_path / "s", {"slope": 1.0, "steps": 5}, reporter=Mine())
    assert Mine.reports == [(1, False), (1, True)]


def test_html_is_escaped() -> None:
    assert "<td>a&lt;b</td>" in html("t", ["x"], [["a<b"]])


def test_flatten() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": {}, "e": [1]}) == {"a/b/c": 1, "d": {}, "e": [1]}
