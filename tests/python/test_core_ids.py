"""Identities: their bytes and texts, and that what names a thing in one place names it in all others."""

import pickle

import pytest

IDS = ("ActorID", "JobID", "NodeID", "PlacementGroupID", "TaskID", "UniqueID", "WorkerID")


@pytest.mark.parametrize("name", IDS)
def test_bytes_and_texts_of_an_identity(runtime, name):
    kind = getattr(runtime, name)
    one = kind.from_random()
    assert type(one.binary()) is bytes
    assert len(one.binary()) == kind.size()
    assert one.hex() == one.binary().hex() == bytes(one).hex()
    assert repr(one) == f"{name}({one.hex()})"
    for same in (kind(one.binary()), kind.from_binary(one.binary()), kind.from_hex(one.hex()), pickle.loads(pickle.dumps(one))):
        assert same == one
        assert hash(same) == hash(one)
        assert type(same) is kind
    assert one != kind.from_random()
    assert one != one.hex()
    assert one != one.binary()
    assert len({one, kind(one.binary()), kind.from_random()}) == 2
    assert kind.nil().is_nil()
    assert kind.nil() == kind.nil()
    assert not one.is_nil()


def test_identities_of_different_things_differ(runtime):
    number = bytes(range(12))
    assert runtime.ActorID(number) != runtime.PlacementGroupID(number)
    assert runtime.ActorID.nil() != runtime.PlacementGroupID.nil()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda kind: kind("00" * kind.size()), TypeError, "from_hex"),
        (lambda kind: kind(b"0"), ValueError, "these are 1"),
        (lambda kind: kind.from_hex(b"00"), TypeError, "takes a text"),
        (lambda kind: kind.from_hex("0f"), ValueError, "these are 1"),
        (lambda kind: kind.from_hex("no hexadecimal text"), ValueError, "hexadecimal"),
    ],
)
def test_what_is_no_identity(runtime, wrong, error, message):
    with pytest.raises(error, match=message):
        wrong(runtime.TaskID)


def test_numbers_of_jobs(runtime):
    assert runtime.JobID.from_int(258).hex() == "00000102"
    assert runtime.JobID.from_int(258).int() == 258


def test_the_context_names_what_runs(runtime):
    @runtime.remote
    class Named:
        def who(self):
            import trireme

            context = trireme.get_runtime_context()
            texts = context.get_job_id(), context.get_node_id(), context.get_task_id(), context.get_actor_id()
            return texts, (context.job_id, context.node_id, context.task_id, context.actor_id), context.get_worker_id()

    @runtime.remote
    def task():
        import trireme

        context = trireme.get_runtime_context()
        return context.actor_id, context.task_id.hex() == context.get_task_id()

    actor = Named.remote()
    texts, ids, worker = runtime.get(actor.who.remote(), timeout=60)
    assert texts == tuple(each.hex() for each in ids)
    kinds = (runtime.JobID, runtime.NodeID, runtime.TaskID, runtime.ActorID)
    assert tuple(type(each) for each in ids) == kinds
    assert ids[3] == actor._actor_id == actor._ray_actor_id
    assert runtime.WorkerID.from_hex(worker).job_id() == ids[0] == runtime.get_runtime_context().job_id
    assert ids[1].hex() in {node["NodeID"] for node in runtime.nodes()}
    assert runtime.get_runtime_context().node_id.hex() == runtime.get_runtime_context().get_node_id()
    assert runtime.get_runtime_context().task_id is None
    assert runtime.get(task.remote(), timeout=60) == (None, True)


def test_references_name_their_object(runtime):
    @runtime.remote
    def same(box):
        ref = box[0]
        return ref.hex(), ref.binary(), ref.task_id(), ref.job_id(), ref.is_nil()

    @runtime.remote
    def one():
        return 1

    for ref in (runtime.put(1), one.remote()):
        assert runtime.ObjectID is type(ref)
        assert bytes.fromhex(ref.hex()) == ref.binary()
        assert len(ref.binary()) == ref.size()
        assert not ref.task_id().is_nil()
        assert ref.job_id() == ref.task_id().job_id() == runtime.get_runtime_context().job_id
        there = runtime.get(same.remote([ref]), timeout=60)
        assert there == (ref.hex(), ref.binary(), ref.task_id(), ref.job_id(), False)
    assert one.remote().task_id() != one.remote().task_id()


def test_identities_as_arguments_and_keys(runtime):
    @runtime.remote
    def count(ids):
        return {each: len(each.binary()) for each in ids}

    ids = [getattr(runtime, name).from_random() for name in IDS]
    assert runtime.get(count.remote(ids), timeout=60) == {each: each.size() for each in ids}


def test_a_group_by_its_identity(runtime):
    from trireme.util import placement_group, placement_group_table, remove_placement_group
    from trireme.util.placement_group import PlacementGroup
    from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    @runtime.remote(num_cpus=0)
    class Maker:
        def make(self):
            self.group = placement_group([{"CPU": 0.01}, {"CPU": 0.02}], "SPREAD", name="by its identity")
            assert self.group.wait(60)
            return self.group.id

    @runtime.remote(num_cpus=0.01)
    def inside():
        import trireme

        return trireme.get_runtime_context().get_placement_group_id()

    makers = [Maker.options(scheduling_strategy="SPREAD").remote() for _ in range(len(runtime.nodes()))]
    for maker in makers:
        made = runtime.get(maker.make.remote(), timeout=60)
        assert type(made) is runtime.PlacementGroupID
        group = PlacementGroup(made)
        assert group.id == made
        assert not group.is_empty
        assert placement_group_table()[made.hex()]["placement_group_id"] == made.hex()
        assert (group.bundle_specs, group.strategy, group.name) == ([{"CPU": 0.01}, {"CPU": 0.02}], "SPREAD", "by its identity")
        strategy = PlacementGroupSchedulingStrategy(PlacementGroup(made), 1)
        assert runtime.get(inside.options(scheduling_strategy=strategy).remote(), timeout=60) == made.hex()
        remove_placement_group(PlacementGroup(runtime.PlacementGroupID.from_hex(made.hex())))
        assert placement_group_table()[made.hex()]["state"] == "REMOVED"


def test_a_group_that_is_none(runtime):
    from trireme.util.placement_group import PlacementGroup

    assert PlacementGroup.empty().is_empty
    assert PlacementGroup.empty().bundle_specs == []
    for nobody in (runtime.PlacementGroupID(bytes(11) + b"\x09"), runtime.PlacementGroupID.nil()):
        with pytest.raises(ValueError, match="there is no placement group"):
            PlacementGroup(nobody).bundle_specs  # noqa: B018
