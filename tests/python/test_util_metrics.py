"""Metrics: what many processes record is added up and can be read while they run and after they end."""

import math
import os
import pickle

import pytest

from trireme.util import metrics
from trireme.util._metric_files import Sample, merge, parse
from trireme.util.metrics import Counter, Gauge, Histogram


def found(name, **tags):
    samples = [s for s in metrics.collect() if s.name == name and s.tags == tags]
    assert len(samples) == 1, samples
    return samples[0]


def test_a_counter_sums_over_processes(runtime):
    @runtime.remote
    def count(times):
        counter = Counter("test_sum", "what was counted", ("kind",))
        for _ in range(times):
            counter.inc(tags={"kind": "task"})
        return os.getpid()

    runtime.get([count.remote(times) for times in (1, 2, 3, 4)])
    Counter("test_sum", "what was counted", ("kind",)).inc(0.5, tags={"kind": "driver"})
    assert found("test_sum", kind="task").value == 10
    assert found("test_sum", kind="driver").value == 0.5
    assert found("test_sum", kind="task").description == "what was counted"


def test_values_of_a_dead_process_stay(runtime):
    @runtime.remote(max_restarts=0)
    class Mortal:
        def record(self):
            Counter("test_dead").inc(7)

        def die(self):
            os._exit(1)

    actor = Mortal.remote()
    runtime.get(actor.record.remote())
    with pytest.raises(runtime.exceptions.RayActorError):
        runtime.get(actor.die.remote())
    assert found("test_dead").value == 7


def test_the_gauge_set_last_counts(runtime):
    @runtime.remote
    def set_to(gauge, value):
        gauge.set(value)

    gauge = Gauge("test_gauge", "a level", ("where",)).set_default_tags({"where": "here"})
    for value in (3, -2.5, 11):
        runtime.get(set_to.remote(gauge, value))
    assert found("test_gauge", where="here").value == 11
    gauge.set(None)
    assert found("test_gauge", where="here").value == 11


def test_a_histogram_counts_by_boundaries():
    histogram = Histogram("test_histogram", boundaries=[1, 10], tag_keys=("op",))
    for value in (0.5, 1, 5, 50, 500):
        histogram.observe(value, {"op": "read"})
    sample = found("test_histogram", op="read")
    assert sample.buckets == [2, 1, 2]
    assert sample.value == 556.5


def test_metrics_of_actors_and_of_other_nodes(runtime, ranks):
    from trireme.util import _metric_files
    from trireme.util.state._gather import gather

    @runtime.remote
    class Member:
        def __init__(self):
            self.counter = Counter("test_members", tag_keys=("rank",))

        def work(self, rank):
            self.counter.inc(tags={"rank": str(rank)})

    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    members = []
    for node in runtime.nodes():
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        members.append(Member.options(scheduling_strategy=there, num_cpus=0).remote())
        runtime.get(members[-1].work.remote(node["rank"]))
    assert [found("test_members", rank=str(rank)).value for rank in range(ranks)] == [1] * ranks
    # As it is done where the ranks do not share a file system.
    parts = gather(_metric_files.read_folder, 60, through_tasks=True)
    assert [part.rank for part in parts] == list(range(ranks))
    through_tasks = merge([sample for part in parts for sample in part.value])
    assert sum(sample.value for sample in through_tasks if sample.name == "test_members") == ranks


def test_many_metrics_outgrow_the_first_mapping(runtime):
    counter = Counter("test_many", "x" * 200, ("index",))
    for index in range(1000):
        counter.inc(index + 1, {"index": str(index)})
    samples = [s for s in metrics.collect() if s.name == "test_many"]
    assert sum(sample.value for sample in samples) == 500500


def test_prometheus_text():
    counter = Sample("jobs", "counter", "done\njobs", {"kind": 'a "b"'}, 3.0)
    histogram = Sample("seconds", "histogram", "", {}, 4.5, 0, [1.0, 2.5], [1.0, 0.0, 2.0])
    assert metrics.prometheus_text([counter, histogram]) == (
        "# HELP jobs done\\njobs\n"
        "# TYPE jobs counter\n"
        'jobs{kind="a \\"b\\""} 3\n'
        "# HELP seconds \n"
        "# TYPE seconds histogram\n"
        'seconds_bucket{le="1"} 1\n'
        'seconds_bucket{le="2.5"} 1\n'
        'seconds_bucket{le="+Inf"} 3\n'
        "seconds_sum 4.5\n"
        "seconds_count 3\n"
    )
    assert math.isinf(float("inf"))


def test_bad_records_are_refused():
    counter = Counter("test_bad", tag_keys=("kind",))
    with pytest.raises(ValueError, match="only grows"):
        counter.inc(-1, {"kind": "a"})
    with pytest.raises(ValueError, match="only grows"):
        counter.inc(0, {"kind": "a"})
    with pytest.raises(ValueError, match="no value for the tags"):
        counter.inc()
    with pytest.raises(ValueError, match="no tag 'other'"):
        counter.inc(1, {"other": "a"})
    with pytest.raises(TypeError, match="strings"):
        counter.inc(1, {"kind": 3})
    with pytest.raises(TypeError, match="number"):
        counter.inc("1", {"kind": "a"})


def test_bad_definitions_are_refused():
    with pytest.raises(ValueError, match="name"):
        Counter("")
    with pytest.raises(ValueError, match="name"):
        Counter("with-dashes")
    with pytest.raises(TypeError, match="tag_keys"):
        Counter("name", tag_keys="tag")
    with pytest.raises(ValueError, match="boundaries"):
        Histogram("name")
    with pytest.raises(ValueError, match="ascending"):
        Histogram("name", boundaries=[2, 1])


def test_info_and_pickling():
    histogram = Histogram("test_info", "text", boundaries=[1], tag_keys=("a", "b")).set_default_tags({"a": "1"})
    copy = pickle.loads(pickle.dumps(histogram))
    assert copy.info == histogram.info
    assert copy.info == {
        "name": "test_info",
        "description": "text",
        "tag_keys": ("a", "b"),
        "default_tags": {"a": "1"},
        "boundaries": [1.0],
    }


def test_an_empty_file_has_no_metrics():
    assert parse((8).to_bytes(8, "little")) == []
