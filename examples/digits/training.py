"""What each worker of a trial runs: the network of network.py, or one of PyTorch, on its part of the digits."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from network import Adam, Network

from trireme import train

STATE_FILE = "state.npz"


def train_numpy(config: dict[str, Any]) -> None:
    """`config`: lr, width, batch_size (of all workers together), epochs, seed, classes; dies_at, marker (see below)."""
    context = train.get_context()
    shard, test = train.get_dataset_shard("train"), train.get_dataset_shard("test").to_numpy()
    pixels = shard.to_numpy()["image"].shape[1]
    network = Network(pixels, config["width"], config["classes"], config["seed"])
    optimiser = Adam(network.parameters, config["lr"])
    first = load(network, optimiser)
    parallel = train.DataParallel(network.parameters)
    for epoch in range(first, config["epochs"] + 1):
        losses = []
        for batch in shard.iter_batches(
            batch_size=max(1, config["batch_size"] // context.get_world_size()),
            local_shuffle_buffer_size=len(shard),
            local_shuffle_seed=config["seed"] + epoch,
        ):
            losses.append(network.backward(batch["image"], batch["label"], parallel.ready))
            optimiser.step(parallel.gradients())
        die_once(config, epoch)
        metrics = {
            "epoch": epoch,
            "loss": float(np.mean(losses)),
            "accuracy": network.accuracy(test["image"], test["label"]),
        }
        report(metrics, network, optimiser)


def report(metrics: dict[str, Any], network: Network, optimiser: Adam) -> None:
    """Rank 0 saves; all report."""
    if train.get_context().get_world_rank() != 0:
        train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        state = {f"parameter.{name}": value for name, value in network.parameters.items()}
        state.update({f"optimiser.{name}": value for name, value in optimiser.state.items()})
        np.savez(Path(folder, STATE_FILE), epoch=metrics["epoch"], **state)
        train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))


def load(network: Network, optimiser: Adam) -> int:
    """Takes up the state of the checkpoint, if there is one; returns the next epoch."""
    checkpoint = train.get_checkpoint()
    if checkpoint is None:
        return 1
    with checkpoint.as_directory() as folder, np.load(Path(folder, STATE_FILE)) as state:
        for name, value in network.parameters.items():
            value[...] = state[f"parameter.{name}"]
        for name, value in optimiser.state.items():
            value[...] = state[f"optimiser.{name}"]
        return int(state["epoch"]) + 1


def die_once(config: dict[str, Any], epoch: int) -> None:
    """Of all workers of the whole search, the first that has rank 1 and comes to epoch `dies_at` kills itself."""
    if epoch != config.get("dies_at") or train.get_context().get_world_rank() != 1:
        return
    try:
        os.close(os.open(config["marker"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    context = train.get_context()
    print(f"worker 1 of {context.get_trial_name()} kills itself in epoch {epoch} (pid {os.getpid()})", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def train_torch(config: dict[str, Any]) -> None:
    """The same with PyTorch: torch.distributed is set up already, DistributedDataParallel averages the gradients."""
    import torch
    from torch import nn

    from trireme.train.torch import get_device, prepare_model

    context, device = train.get_context(), get_device()
    shard, test = train.get_dataset_shard("train"), train.get_dataset_shard("test")
    pixels = shard.to_numpy()["image"].shape[1]
    torch.manual_seed(config["seed"])
    model = nn.Sequential(nn.Linear(pixels, config["width"]), nn.ReLU(), nn.Linear(config["width"], config["classes"]))
    model = prepare_model(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=config["lr"])
    first, checkpoint = 1, train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder, "state.pt"), map_location=device)
        bare(model).load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["epoch"] + 1
    for epoch in range(first, config["epochs"] + 1):
        losses = []
        for batch in shard.iter_torch_batches(
            batch_size=max(1, config["batch_size"] // context.get_world_size()),
            local_shuffle_buffer_size=len(shard),
            local_shuffle_seed=config["seed"] + epoch,
        ):
            loss = nn.functional.cross_entropy(model(batch["image"]), batch["label"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        die_once(config, epoch)
        with torch.no_grad():
            (batch,) = test.iter_torch_batches(batch_size=None)
            accuracy = (bare(model)(batch["image"]).argmax(1) == batch["label"]).double().mean().item()
        metrics = {"epoch": epoch, "loss": float(np.mean(losses)), "accuracy": accuracy}
        if context.get_world_rank() != 0:
            train.report(metrics)
            continue
        with tempfile.TemporaryDirectory() as folder:
            state = {"model": bare(model).state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch}
            torch.save(state, Path(folder, "state.pt"))
            train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))


def bare(model: Any) -> Any:
    """The model without the wrapper of several workers."""
    return getattr(model, "module", model)
