"""A hyper-parameter search over handwritten digits: each trial is a data-parallel training on several workers, poor
trials are stopped early (ASHA), and one worker is killed on the way.

    python main.py                       # this machine
    mpirun -n 2 python main.py           # two ranks
    srun --mpi=pmix -n 8 python main.py  # a Slurm allocation
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import training

import trireme
from trireme import datasets, train, tune


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="hyper-parameter search over handwritten digits")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=16, help="of a trial that is not stopped early")
    parser.add_argument("--workers", type=int, default=2, help="of each trial")
    parser.add_argument("--trainer", choices=("numpy", "torch"), default="numpy")
    parser.add_argument("--mnist", metavar="FOLDER", help="MNIST's four files instead of scikit-learn's digits")
    parser.add_argument("--hdf5", metavar="FILE", help="data sets 'image' (rows x pixels, 0 to 1) and 'label' instead")
    parser.add_argument("--output", metavar="FOLDER", default=os.path.join(tempfile.gettempdir(), "trireme_digits"))
    parser.add_argument("--seed", type=int, default=1, help="of the data's split, the configurations and the trainings")
    parser.add_argument("--no-death", action="store_true", help="kill no worker")
    parser.add_argument("--need", type=float, default=0.97, help="fail when no trial gets above this test accuracy")
    return parser.parse_args()


def data(options: argparse.Namespace) -> datasets.Split:
    """What is trained on."""
    if options.mnist:
        return datasets.load_mnist(options.mnist)
    if options.hdf5:
        columns = datasets.read_hdf5(options.hdf5, ["image", "label"])
        return datasets.split_rows(columns, test_fraction=0.2, seed=options.seed)
    return datasets.load_digits(test_fraction=0.2, seed=options.seed)


def trainer(options: argparse.Namespace, split: datasets.Split, folder: str) -> train.DataParallelTrainer:
    """What a trial runs."""
    fixed = {"epochs": options.epochs, "seed": options.seed, "classes": int(split.train["label"].max()) + 1}
    if not options.no_death:
        fixed.update(dies_at=2, marker=os.path.join(folder, "a_worker_died"))
    common = {
        "train_loop_config": fixed,
        "scaling_config": train.ScalingConfig(num_workers=options.workers),
        "run_config": train.RunConfig(failure_config=train.FailureConfig(max_failures=2)),
        "datasets": {"train": split.train, "test": split.test},
        "dataset_config": train.DataConfig(datasets_to_split=["train"]),
        "seed": options.seed,
    }
    if options.trainer == "torch":
        from trireme.train.torch import TorchTrainer

        return TorchTrainer(training.train_torch, **common)
    return train.DataParallelTrainer(training.train_numpy, **common)


def search(options: argparse.Namespace, split: datasets.Split, folder: str) -> tune.ResultGrid:
    """Runs the search."""
    return tune.Tuner(
        trainer(options, split, folder),
        param_space={
            "train_loop_config": {
                "lr": tune.loguniform(5e-4, 5e-2),
                "width": tune.choice([32, 64, 128]),
                "batch_size": tune.choice([32, 64, 128]),
            }
        },
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=options.trials,
            search_alg=tune.search.BasicVariantGenerator(random_state=options.seed),
            scheduler=tune.schedulers.ASHAScheduler(
                time_attr="epoch", max_t=options.epochs, grace_period=2, reduction_factor=2
            ),
        ),
        run_config=train.RunConfig(
            name="search",
            storage_path=folder,
            checkpoint_config=train.CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="accuracy"),
        ),
    ).fit()


def main() -> int:
    """0 when the best trial is good enough and, unless told otherwise, a worker died on the way."""
    options = arguments()
    begin = time.monotonic()
    trireme.init()
    os.makedirs(options.output, exist_ok=True)
    folder = tempfile.mkdtemp(prefix=time.strftime("%Y-%m-%d_%H-%M-%S_"), dir=options.output)
    split = data(options)
    print(
        f"{len(split.train['label'])} images to train on, {len(split.test['label'])} to test on; {options.trials} trials of "
        f"{options.workers} workers on {len(trireme.nodes())} rank(s)",
        flush=True,
    )
    results = search(options, split, folder)
    best = results.get_best_result(scope="all")
    peak = max(report["accuracy"] for report in best.metrics_history)
    chosen = ", ".join(f"{name} {value:.4g}" for name, value in sorted(best.config["train_loop_config"].items()))
    timeline = os.path.join(folder, "timeline.json")
    trireme.timeline(timeline)
    print(f"\nbest test accuracy {peak:.4f} with {chosen}")
    print(f"checkpoint  {best.get_best_checkpoint('accuracy', 'max').path}")
    print(f"timeline    {timeline} (open in https://ui.perfetto.dev)")
    try:
        results.plot(path=os.path.join(folder, "search.png"))
        print(f"plot        {os.path.join(folder, 'search.png')}")
    except ImportError as missing:
        print(f"plot        none: {missing}")
    died = Path(folder, "a_worker_died").exists()
    if died:
        print("one worker was killed on the way; its trial went on from its checkpoint")
    print(f"{time.monotonic() - begin:.1f} s")
    if results.num_errors:
        print(f"{results.num_errors} trial(s) failed: {results.errors[0]}", file=sys.stderr)
        return 1
    if peak <= options.need:
        print(f"no trial got above {options.need}", file=sys.stderr)
        return 1
    if not died and not options.no_death:
        print("no worker died, though one should have", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
