"""How time and memory of a fit grow with images, voxels and targets, and what a second process gains on two cores.

    python tests/bench/bench_scale.py [--images 1000 … 32000] [--voxels 2000 … 16000] [--targets 10000 … 300000] [--skip-two-cores]

Prints one JSON object last. Every point is a fit of ridge (one alpha) and of eight epochs of the MLP, in a process of its own, to
synthetic data on disk; 32,000 images need 15 GB. `gb`: the peak of its memory, less what it took before. `exponents`: slopes of
log time and log memory against log size over the three largest sizes, "measured" and of the "formula" that the docstrings of
`fit_ridge` and `fit_mlp` give; `grows_faster` lists those that are steeper than their formula by more than 0.1. `two_cores`:
seconds of two processes of one thread each and of one of two threads, and how many times as fast the former are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from bench_ridge import peak_gb, write_data

RANK, HIDDEN, EPOCHS, HELD = 256, 1024, 8, 0.1


@dataclass(frozen=True)
class Size:
    images: int
    voxels: int
    targets: int


# what each sweep holds fixed is small, so that what it varies is what costs
SWEEPS = {"images": Size(0, 512, 512), "voxels": Size(4000, 0, 64), "targets": Size(1000, 1000, 0)}
TWO_CORES = (4000, 8000, 20_000)  # images, voxels, targets


def width(size: Size, rank: int) -> int:
    """Directions of the range finder."""
    return min(rank + 32, size.images, size.targets)


def ridge_operations(size: Size, alphas: int = 1, chosen: int = 1) -> float:
    """Of `fit_ridge` with so many alphas: Gram matrix, Cholesky factors, solutions, products with the targets, QR."""
    n, p, q, inner, held = size.images, size.voxels, size.targets, (1 - HELD) * size.images, HELD * size.images
    wide, narrow = width(size, 1024), width(size, RANK)
    factors = ((alphas + 5 * chosen) * inner**3 + 2 * chosen * n**3) / 3
    solutions = 2 * (alphas + chosen) * inner**2 * held
    solutions += (8 * chosen + 4) * inner**2 * wide + (4 * chosen + 2) * n**2 * narrow
    products = 2 * held * inner * q + 8 * n * q * wide + 4 * n * q * narrow + 10 * q * wide**2
    return n**2 * p + factors + solutions + products


def mlp_operations(size: Size, epochs: int = EPOCHS) -> float:
    """Of `fit_mlp`: targets into the basis, training, which multiplies three times by all weights, and predictions."""
    n, rank = size.images, min(RANK, size.targets)
    weights = size.voxels * (rank + HIDDEN) + HIDDEN * rank
    return 2 * n * size.targets * rank + 6 * epochs * n * weights + 2 * n * weights


def gigabytes(size: Size) -> float:
    """Of the larger of both, float32 values."""
    n, p, q, rank = size.images, size.voxels, size.targets, min(RANK, size.targets)
    ridge = (n + 1024) * p + 4 * n**2 + 2 * HELD * n * q + 3 * q * width(size, 1024)
    mlp = 6 * (p * (rank + HIDDEN) + HIDDEN * rank) + HELD * n * p
    return 4e-9 * max(ridge, mlp)


def slope(sizes: list[int], values: list[float]) -> float:
    """Over the three largest sizes: in smaller ones constants hide it."""
    return round(float(np.polyfit(np.log(sizes[-3:]), np.log(values[-3:]), 1)[0]), 2)


def fit(folder: Path, size: Size) -> dict:
    """Seconds of both regressors, and the peak of memory."""
    import torch

    from precompute.fitting.alphas import Grid
    from precompute.fitting.fit import linear_model
    from precompute.fitting.fit_mlp import fit_mlp
    from precompute.fitting.fit_ridge import fit_ridge
    from precompute.fitting.train_network import Training
    from recon.regressors.standardise import split_rows

    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # the first one imports for a second
    before, training = peak_gb(), Training(hidden=HIDDEN, max_epochs=EPOCHS)
    X, Y = (np.load(folder / f"{name}_train.npy", mmap_mode="r") for name in "XY")
    held, _ = split_rows(len(X), HELD)
    start = time.perf_counter()
    ridge, report = fit_ridge(X, Y, Grid(np.array([1e4]), {"all": slice(0, size.targets)}), RANK, held)
    middle = time.perf_counter()
    fit_mlp(X, Y, linear_model(ridge, report), training, folder)
    end = time.perf_counter()
    return {"ridge_seconds": middle - start, "mlp_seconds": end - middle, "gb": peak_gb() - before}


def features(folder: Path, size: Size) -> dict:
    """Seconds of the latents of a few pictures, by the published VDVAE's architecture."""
    from full_size import random_vdvae

    from precompute.fitting.features import Into, extract_latents
    from precompute.team import team

    me, vdvae = team(), random_vdvae()
    me.wait()
    start = time.perf_counter()
    extract_latents(folder / "pictures.npy", vdvae, 31, Into(folder / f"latents{me.size}.npy", folder, batch=8))
    return {"seconds": time.perf_counter() - start}


def measure(what: str, folder: Path, size: Size, threads: int, processes: int = 1) -> dict:
    """What the first of these processes says, each of so many threads."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    arguments = [__file__, "--contestant", what, str(folder), json.dumps(asdict(size))]
    command = [sys.executable, *(launcher if processes > 1 else []), *arguments]
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
    return json.loads(out.splitlines()[-1])


def one_fit(size: Size, threads: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), size.images, size.voxels, size.targets, 2)
        return measure("fit", Path(folder), size, threads)


def sweep(name: str, sizes: list[int], threads: int) -> dict:
    """One fit for each size, and how they grow."""
    every = [replace(SWEEPS[name], **{name: n}) for n in sizes]
    points = [one_fit(size, threads) for size in every]
    report = {"sizes": sizes, "fixed": {k: v for k, v in asdict(SWEEPS[name]).items() if k != name}}
    report |= {key: [round(point[key], 3) for point in points] for key in points[0]}
    formulas = {"ridge_seconds": ridge_operations, "mlp_seconds": mlp_operations, "gb": gigabytes}
    report["exponents"] = {
        key: {
            "measured": slope(sizes, [point[key] for point in points]),
            "formula": slope(sizes, [formula(size) for size in every]),
        }
        for key, formula in formulas.items()
    }
    return report


def two_cores(size: Size, n_pictures: int) -> dict:
    """Features by two processes of one thread each against one process of two."""
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        pictures = np.random.default_rng(0).integers(0, 256, (n_pictures, 64, 64, 3), np.uint8)
        np.save(Path(folder) / "pictures.npy", pictures)
        one, two = (
            measure("features", Path(folder), size, threads, processes)["seconds"]
            for threads, processes in ((2, 1), (1, 2))
        )
    report["features_seconds"] = {"one_process": round(one, 2), "two_processes": round(two, 2)}
    for seconds in report.values():
        seconds["times_as_fast"] = round(seconds["one_process"] / seconds["two_processes"], 2)
    return {"pictures": n_pictures} | report


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, nargs="*", default=[1000, 2000, 4000, 8000, 32_000])
    parser.add_argument("--voxels", type=int, nargs="*", default=[2000, 4000, 8000, 16_000])
    parser.add_argument("--targets", type=int, nargs="*", default=[10_000, 30_000, 100_000, 300_000])
    parser.add_argument("--threads", type=int, default=2, help="of every fit of a sweep")
    parser.add_argument("--two-cores", type=int, nargs=3, default=TWO_CORES, metavar="N")
    parser.add_argument("--pictures", type=int, default=32, help="of the features by two processes")
    parser.add_argument("--skip-two-cores", action="store_true")
    parser.add_argument("--contestant", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        what, folder, size = options.contestant
        print(json.dumps({"fit": fit, "features": features}[what](Path(folder), Size(**json.loads(size)))))
        return
    report = {"threads": options.threads}
    report |= {name: sweep(name, getattr(options, name), options.threads) for name in SWEEPS if getattr(options, name)}
    report["grows_faster"] = [
        f"{key} with {name}"
        for name in SWEEPS
        if name in report
        for key, found in report[name]["exponents"].items()
        if found["measured"] > found["formula"] + 0.1
    ]
    if not options.skip_two_cores:
        report["two_cores"] = two_cores(Size(*options.two_cores), options.pictures)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
