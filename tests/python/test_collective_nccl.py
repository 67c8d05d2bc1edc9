"""Backend "nccl" of `trireme.util.collective`: on GPUs where there are enough, and its errors everywhere."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trireme._collective")

from trireme.util import collective  # noqa: E402 - needs the module
from trireme.util.collective.nccl import NcclCommunicator  # noqa: E402


def devices() -> int:
    """How many CUDA devices there are; -1 where Trireme was built without NCCL."""
    try:
        from trireme import _nccl
    except ImportError:
        return -1
    return _nccl.device_count()


needs_nccl = pytest.mark.skipif(devices() < 0, reason="missing NCCL: Trireme was built without")
no_gpu_only = pytest.mark.skipif(devices() > 0, reason="there is a CUDA device, and this tests that there is none")
needs_gpu = pytest.mark.skipif(devices() < 1, reason="missing a CUDA device")


class Member:
    def join(self, size: int, rank: int, name: str, **options: Any) -> str:
        try:
            collective.init_collective_group(size, rank, "nccl", name, timeout=60, **options)
        except collective.BackendUnavailableError as error:
            return str(error)
        return ""

    def plan(self, name: str) -> str:
        try:
            collective.allreduce(np.ones(2), name)
        except collective.BackendUnavailableError as error:
            return str(error)
        return ""


class OnGpu:
    """Says that it lies on a GPU."""

    shape, dtype = (2,), "f4"

    def __init__(self, device: int = 0, kind: int = 2) -> None:
        self._where = kind, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._where

    def __dlpack__(self, stream: Any = None) -> Any:
        raise AssertionError("exported before it was looked at")


class Fake:
    """What `_nccl.Communicator` would be; notes what it is asked for."""

    def __init__(self, rank: int, size: int, exchange: Any, name: str, timeout: float, device: int) -> None:
        self.rank, self.size, self.calls = rank, size, []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            return self

        return call


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> NcclCommunicator:
    """Member 0 of 2, on device 0, over a `Fake`."""
    from trireme.util.collective import nccl

    monkeypatch.setattr(nccl, "_native_nccl", lambda: type("module", (), {"Communicator": Fake}))
    return NcclCommunicator(0, 2, lambda mine, timeout: [mine], "fake", 60, 0)


@needs_nccl
@no_gpu_only
def test_without_a_gpu_every_member_hears_which_one_lacks_it(runtime: Any) -> None:
    members = [runtime.remote(Member).options(num_cpus=0).remote() for _ in range(2)]
    texts = runtime.get([m.join.remote(2, rank, "no gpu") for rank, m in enumerate(members)], timeout=60)
    for text in texts:
        assert "group 'no gpu': member 0 of 2 cannot use NCCL: no CUDA device on this machine" in text
    assert not collective.is_group_initialized("no gpu")


@needs_nccl
@no_gpu_only
def test_a_planned_group_has_the_backend_it_was_planned_with(runtime: Any) -> None:
    members = [runtime.remote(Member).options(num_cpus=0).remote() for _ in range(2)]
    collective.create_collective_group(members, 2, [0, 1], "nccl", "planned nccl")
    texts = runtime.get([m.plan.remote("planned nccl") for m in members], timeout=60)
    collective.destroy_collective_group("planned nccl")
    assert all("no CUDA device" in text for text in texts)


def test_built_without_nccl_says_so(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trireme._nccl", None)
    monkeypatch.delattr(sys.modules["trireme"], "_nccl", raising=False)
    with pytest.raises(collective.BackendUnavailableError, match="built without NCCL.*TRIREME_CUDA"):
        collective.init_collective_group(1, 0, "nccl", "not built")
    assert not collective.is_group_initialized("not built")


def test_options_of_the_other_backend_are_refused() -> None:
    with pytest.raises(ValueError, match="fixed_order: NCCL"):
        collective.init_collective_group(1, 0, "nccl", fixed_order=True)
    with pytest.raises(ValueError, match="device=1: only backend 'nccl'"):
        collective.init_collective_group(1, 0, "gloo", device=1)


def test_what_does_not_lie_on_the_members_gpu_is_refused(group: NcclCommunicator) -> None:
    with pytest.raises(TypeError, match=r"ndarray that does not lie on a GPU.*backend='cpu'"):
        group.all_reduce(np.ones(3))
    with pytest.raises(TypeError, match="a list was given"):
        group.broadcast([1.0], 0)
    with pytest.raises(ValueError, match="on CUDA device 1, this member of the group is on device 0"):
        group.all_gather(OnGpu(0), OnGpu(1))
    with pytest.raises(ValueError, match="no tags"):
        group.send(OnGpu(), 1, tag=3)
    with pytest.raises(NotImplementedError, match="barrier"):
        group.start_barrier()
    assert group._group.calls == []


def test_arrays_that_are_not_torchs_go_to_the_default_stream(group: NcclCommunicator) -> None:
    x, y = OnGpu(), OnGpu(kind=13)
    group.all_reduce(x, 2)
    group.start_reduce_scatter(y, x, 0)
    assert group._group.calls == [("all_reduce", x, 2, None), ("wait",), ("reduce_scatter", y, x, 0, None)]


def test_torchs_tensors_go_to_its_current_stream(group: NcclCommunicator, monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeTorch:
        Tensor = OnGpu

        class cuda:  # noqa: N801 - torch's name
            @staticmethod
            def is_available() -> bool:
                return True

            @staticmethod
            def current_stream(device: int) -> Any:
                return type("Stream", (), {"cuda_stream": 1234 + device})

    monkeypatch.setitem(sys.modules, "torch", FakeTorch)
    x = OnGpu()
    group.start_broadcast(x, 1)
    group.barrier()
    assert group._group.calls == [("broadcast", x, 1, 1234), ("barrier", 1234)]


def test_a_gpus_tensor_in_a_group_on_the_cpu_is_refused(runtime: Any) -> None:
    collective.init_collective_group(1, 0, "gloo", "on the cpu")
    with pytest.raises(TypeError, match=r"on CUDA device 3, and this group reduces on the CPU.*backend='nccl'"):
        collective.allreduce(OnGpu(3), "on the cpu")
    collective.destroy_collective_group("on the cpu")


def test_lists_on_different_devices_are_refused() -> None:
    class Somewhere:
        shape, dtype = (2,), "f4"

        def __init__(self, device: str) -> None:
            self.device = device

    from trireme.util.collective import operations

    with pytest.raises(ValueError, match="different devices: cpu, cuda:0"):
        operations._check_list([Somewhere("cuda:0"), Somewhere("cpu")], 2)


@needs_nccl
@needs_gpu
def test_operations_on_a_gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("missing a torch with CUDA")
    group = NcclCommunicator(0, 1, lambda mine, timeout: [mine], "one", 60)
    x = torch.arange(1000.0, device="cuda")
    expected = x.clone()
    group.all_reduce(x)
    group.broadcast(x, 0)
    everything = torch.zeros(1, 1000, device="cuda")
    work = group.start_all_gather(x, everything)
    everything += 1  # behind the operation, on the same stream
    work.wait()
    assert torch.equal(everything[0], expected + 1)
    with pytest.raises(TypeError, match="does not lie on a GPU"):
        group.all_reduce(torch.ones(3))
    group.barrier()
    group.close()
