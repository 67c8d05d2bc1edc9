"""TorchTrainer: torch.distributed between the workers, models and loaders made ready for it."""

# ctest: timeout 400
from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trireme import train
from trireme.train.torch import TorchConfig, TorchTrainer, prepare_model
from trireme.train.torch._prepare import FSDP_ON_CPU

HAVE_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAVE_TORCH, reason="torch is not installed")

if HAVE_TORCH:
    # Before the runtime starts; it takes seconds in each worker otherwise.
    os.environ.setdefault("TRIREME_PRELOAD", "torch")

ROWS, BATCH = 64, 16


def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, 6), dtype=np.float32)
    return {"x": x, "y": np.sin(x @ rng.random((6, 2), dtype=np.float32) * 3)}


def regression(config: dict[str, Any]) -> None:
    """Trains a small network; may die once, on rank 1."""
    import torch
    from torch import nn

    context = train.get_context()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    epoch, checkpoint = 0, train.get_checkpoint()
    if checkpoint is not None:
        state = torch.load(Path(checkpoint.path, "state.pt"))
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        epoch = state["epoch"]
    wrapped = prepare_model(model)
    assert isinstance(wrapped, nn.parallel.DistributedDataParallel) == (context.get_world_size() > 1)
    shard = train.get_dataset_shard("train")
    while epoch < config["epochs"]:
        epoch += 1
        losses = []
        for step, batch in enumerate(shard.iter_torch_batches(batch_size=BATCH // context.get_world_size())):
            if (epoch, step) == config.get("dies_at") and context.get_world_rank() == 1:
                if not os.path.exists(config["marker"]):
                    Path(config["marker"]).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            loss = ((wrapped(batch["x"]) - batch["y"]) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        mean = torch.stack(losses).mean()
        if context.get_world_size() > 1:
            torch.distributed.all_reduce(mean)
        metrics = {"epoch": epoch, "loss": mean.item() / context.get_world_size()}
        with tempfile.TemporaryDirectory() as folder:
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch}
            torch.save(state, Path(folder, "state.pt"))
            own = train.Checkpoint.from_directory(folder) if context.get_world_rank() == 0 else None
            train.report(metrics, checkpoint=own)


def fit(path: Path, workers: int, function: Any = regression, max_failures: int = 0, **config: Any) -> train.Result:
    return TorchTrainer(
        function,
        train_loop_config={"epochs": 3, **config},
        torch_config=TorchConfig(timeout_s=60),
        scaling_config=train.ScalingConfig(num_workers=workers),
        run_config=train.RunConfig(
            storage_path=path, name="run", failure_config=train.FailureConfig(max_failures=max_failures)
        ),
        datasets={"train": data()},
    ).fit()


def weights(result: train.Result) -> list[np.ndarray]:
    import torch

    return [value.numpy() for value in torch.load(Path(result.checkpoint.path, "state.pt"))["model"].values()]


@pytest.fixture(scope="module")
def two_workers(runtime: Any, tmp_path_factory: pytest.TempPathFactory) -> train.Result:
    """An undisturbed run, to compare others with."""
    return fit(tmp_path_factory.mktemp("two"), 2)


@needs_torch
def test_two_workers_compute_what_one_process_does(two_workers: train.Result, tmp_path: Path) -> None:
    alone = fit(tmp_path, 1)
    for a, b in zip(alone.metrics_history, two_workers.metrics_history):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    for a, b in zip(weights(alone), weights(two_workers)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert two_workers.metrics_history[-1]["loss"] < two_workers.metrics_history[0]["loss"]


@needs_torch
def test_a_worker_killed_between_all_reduces_changes_no_bit(two_workers: train.Result, tmp_path: Path) -> None:
    marker = tmp_path / "died"
    result = fit(tmp_path, 2, max_failures=1, dies_at=(2, 1), marker=str(marker))
    assert marker.exists()
    assert result.metrics_history == two_workers.metrics_history
    for a, b in zip(weights(result), weights(two_workers)):
        np.testing.assert_array_equal(a, b)


@needs_torch
@pytest.mark.usefixtures("runtime")
def test_loader_parts_cover_the_samples_and_are_shuffled_anew(tmp_path: Path) -> None:
    def loop(config: dict[str, Any]) -> None:
        import torch
        from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

        from trireme.train.torch import get_device, prepare_data_loader

        assert get_device() == torch.device("cpu")
        samples = TensorDataset(torch.arange(16))
        loader = prepare_data_loader(DataLoader(samples, batch_size=2, shuffle=True))
        assert len(loader) == 4
        epochs = [[int(x) for (batch,) in loader for x in batch] for _ in range(2)]
        in_order = prepare_data_loader(DataLoader(samples, batch_size=2))
        plain = [int(x) for (batch,) in in_order for x in batch]
        with pytest.raises(ValueError, match="SubsetRandomSampler"):
            prepare_data_loader(DataLoader(samples, sampler=SubsetRandomSampler([1])))

        class Stream(IterableDataset):
            def __iter__(self) -> Any:
                return iter(range(3))

        stream = [int(x) for x in prepare_data_loader(DataLoader(Stream(), batch_size=None))]
        gathered: list[Any] = [None, None]
        torch.distributed.all_gather_object(gathered, (epochs, plain, stream))
        train.report({"all": gathered})

    result = fit(tmp_path, 2, loop)
    (epochs_0, plain_0, stream), (epochs_1, plain_1, _) = result.metrics["all"]
    for a, b in zip(epochs_0, epochs_1):
        assert sorted(a + b) == list(range(16))
    assert epochs_0[0] != epochs_0[1]
    assert (plain_0, plain_1) == (list(range(0, 16, 2)), list(range(1, 16, 2)))
    assert stream == [0, 1, 2]


def torch_version() -> tuple[int, ...]:
    """Without importing it."""
    found = importlib.metadata.version("torch") if HAVE_TORCH else "0"
    return tuple(int(part) for part in found.split(".")[:2])


def sharded(config: dict[str, Any]) -> None:
    """The same training with FSDP, or with one worker without."""
    import torch
    from torch import nn

    context = train.get_context()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))
    wrapped = prepare_model(model, parallel_strategy="fsdp")
    whole = sum(parameter.numel() for parameter in nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 2)).parameters())
    here = sum(parameter.numel() for parameter in wrapped.parameters())
    optimiser = torch.optim.SGD(wrapped.parameters(), lr=0.2, momentum=0.9)
    for _ in range(config["epochs"]):
        for batch in train.get_dataset_shard("train").iter_torch_batches(batch_size=BATCH // context.get_world_size()):
            loss = ((wrapped(batch["x"]) - batch["y"]) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    state = {name: value.numpy() for name, value in wrapped.state_dict().items()}  # gathers the shards
    train.report({"state": state, "part": here / whole})


@needs_torch
@pytest.mark.usefixtures("runtime")
@pytest.mark.skipif(torch_version() < FSDP_ON_CPU, reason="FSDP on CPUs needs a newer torch")
def test_sharded_workers_compute_what_one_process_does(tmp_path: Path) -> None:
    alone, together = (fit(tmp_path / str(n), n, sharded).metrics for n in (1, 2))
    assert alone["part"] == 1 and together["part"] == pytest.approx(0.5, abs=0.05)
    for name, value in alone["state"].items():
        np.testing.assert_allclose(value, together["state"][name], rtol=1e-4, atol=1e-6)


@needs_torch
@pytest.mark.usefixtures("runtime")
@pytest.mark.skipif(torch_version() >= FSDP_ON_CPU, reason="FSDP works on CPUs with this torch")
def test_fsdp_on_cpus_says_which_torch_it_needs(tmp_path: Path) -> None:
    def loop(config: dict[str, Any]) -> None:
        from torch import nn

        prepare_model(nn.Linear(2, 2), parallel_strategy="fsdp")

    with pytest.raises(train.TrainingFailedError, match=r"'fsdp' on CPUs needs PyTorch 2\.4 or newer, this is"):
        fit(tmp_path, 2, loop)


@needs_torch
@pytest.mark.usefixtures("runtime")
def test_launcher_variables_name_the_store(tmp_path: Path) -> None:
    def loop(config: dict[str, Any]) -> None:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        train.report({name: os.environ[name] for name in names})

    metrics = fit(tmp_path, 2, loop).metrics
    assert (metrics["RANK"], metrics["WORLD_SIZE"], metrics["LOCAL_RANK"]) == ("0", "2", "0")
    assert metrics["MASTER_ADDR"] and int(metrics["MASTER_PORT"]) > 0


def test_without_torch_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="python3-torch.*DataParallelTrainer"):
        fit(tmp_path, 2)


def test_wrong_configurations_are_refused() -> None:
    with pytest.raises(ValueError, match="'gloo', 'nccl'"):
        TorchConfig(backend="mpi")
    with pytest.raises(ValueError, match="above 0"):
        TorchConfig(timeout_s=0)
    with pytest.raises(TypeError, match="TorchConfig"):
        TorchTrainer(lambda: None, torch_config=train.BackendConfig())


def test_the_backend_goes_by_the_workers_gpus() -> None:
    from types import SimpleNamespace

    from trireme.train.torch._config import choose_backend

    def torch(cuda: bool = True, nccl: bool = True) -> Any:
        return SimpleNamespace(
            __version__="2.x",
            cuda=SimpleNamespace(is_available=lambda: cuda),
            distributed=SimpleNamespace(is_nccl_available=lambda: nccl),
        )

    assert choose_backend(torch(), None, gpu=True) == "nccl"
    assert choose_backend(torch(), None, gpu=False) == "gloo"
    assert choose_backend(torch(), "gloo", gpu=True) == "gloo"
    assert choose_backend(torch(), "nccl", gpu=True) == "nccl"
    with pytest.raises(RuntimeError, match="the workers have GPUs.*torch 2.x sees no GPU: it was built without CUDA"):
        choose_backend(torch(cuda=False), None, gpu=True)
    with pytest.raises(RuntimeError, match="is 'nccl', but torch 2.x was built without NCCL"):
        choose_backend(torch(nccl=False), "nccl", gpu=True)


@needs_torch
@pytest.mark.usefixtures("runtime")
def test_nccl_without_gpus_says_what_to_set(tmp_path: Path) -> None:
    trainer = TorchTrainer(
        lambda: None,
        torch_config=TorchConfig(backend="nccl"),
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=train.RunConfig(storage_path=str(tmp_path)),
    )
    with pytest.raises(train.TrainingFailedError, match=r"reserved no GPU; set ScalingConfig\(use_gpu=True\)"):
        trainer.fit()


@needs_torch
@pytest.mark.usefixtures("runtime")
def test_without_workers_the_process_is_a_group_of_one(tmp_path: Path) -> None:
    def loop() -> int:
        import torch
        import torch.distributed as dist

        assert isinstance(prepare_model(torch.nn.Linear(2, 1)), torch.nn.Linear)
        return dist.get_world_size()

    for name in ("a", "b"):
        run = train.RunConfig(storage_path=tmp_path, name=name)
        trainer = TorchTrainer(loop, scaling_config=train.ScalingConfig(num_workers=0), run_config=run)
        assert trainer.fit().return_value == 1
