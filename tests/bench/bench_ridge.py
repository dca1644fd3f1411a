"""Ridge at NSD's shape against what arithmetic alone would take, and against scikit-learn or himalaya.

  python tests/bench/bench_ridge.py [--samples 8859] [--voxels 15724] [--targets 91168] [--test 982] [--peer sklearn|himalaya|none]

Prints one JSON object last. Synthetic data lie on disk as memory-mapped `.npy`; each contestant runs in a process of its own.
`seconds`: fit and prediction of the test images by phase; `floor_ratio`: their total over the time that the necessary products
(Gram n²p, test Gram 2·t·n·p, Cholesky n³/3, apply 2·t·n·q) take at the rate of a plain product, `matmul_gflops`: the median of
products timed before and after every phase, for machines drift;
`alpha_selection_seconds`: twelve alphas on held-out images, on top. The peer gets X in memory, one alpha, and at most
`--peer-targets` of the targets; `speed_up` compares with ours on just those.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from precompute.fitting.alphas import Grid, Split, choose_alphas, columns_of
from precompute.fitting.dual import centred, dual_weights, gram, multiply, standardised
from precompute.fitting.range_finder import find_range_anew
from recon.regressors.standardise import split_rows

ALPHA, N_GROUPS, N_ALPHAS = 50_000.0, 31, 12


def write_data(folder: Path, n: int, p: int, q: int, t: int, seed: int = 0) -> None:
    """Voxels that share 300 dimensions, of falling strength, with the targets; noise in both."""
    rng = np.random.default_rng(seed)
    strength = np.arange(1, 301, dtype=np.float32)[:, None] ** -0.7
    into, out = (
        rng.standard_normal((300, p), np.float32) * strength,
        rng.standard_normal((300, q), np.float32) * strength,
    )
    for name, rows in (("train", n), ("test", t)):
        hidden = rng.standard_normal((rows, 300), np.float32)
        np.save(folder / f"X_{name}.npy", hidden @ into + rng.standard_normal((rows, p), np.float32))
        Y = np.lib.format.open_memmap(folder / f"Y_{name}.npy", "w+", np.float32, (rows, q))
        for k in range(0, rows, 256):
            part = hidden[k : k + 256]
            Y[k : k + 256] = part @ out + rng.standard_normal((len(part), q), np.float32)


class Laps:
    """Seconds of phases, and between them the rate of a plain float32 product, which does not count as part of any."""

    def __init__(self, side: int = 3072):
        self.seconds, self.rates, self.a = {}, [], torch.randn(side, side)
        self.a @ self.a
        self._product()

    def _product(self) -> None:
        start = time.perf_counter()
        self.a @ self.a
        self.rates.append(2 * len(self.a) ** 3 / (time.perf_counter() - start) / 1e9)
        self.start = time.perf_counter()

    def end(self, name: str) -> None:
        self.seconds[name] = round(time.perf_counter() - self.start, 4)
        self._product()

    def report(self) -> dict:
        seconds = self.seconds | {"total": round(sum(self.seconds.values()), 4)}
        return {"seconds": seconds, "matmul_gflops": round(statistics.median(self.rates), 1), "peak_rss_gb": peak_gb()}


def predict(weights: torch.Tensor, Y: np.ndarray) -> torch.Tensor:
    """Intercept included."""
    predicted, mean = multiply({ALPHA: weights}, Y, [(ALPHA, slice(None))], np.arange(len(Y)))
    return predicted.add_(mean)


def ours(folder: Path, q: int, extras: bool) -> dict:
    X, Y, new = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("X_train", "Y_train", "X_test"))
    Y = Y if q == Y.shape[1] else Y[:, :q]
    laps = Laps()
    standardise, Z = standardised(X)
    laps.end("load")
    K = gram(Z)
    laps.end("gram")
    cross = torch.as_tensor(standardise(new)) @ Z.T
    del Z
    laps.end("test_gram")
    weights = dual_weights(K, cross, ALPHA)
    laps.end("solve")
    predicted = predict(weights, Y)
    laps.end("apply")
    report = laps.report()
    np.save(folder / "ours.npy", predicted[:, : min(q, 2000)].numpy())
    if extras:
        start = time.perf_counter()
        edges = np.linspace(0, q, N_GROUPS + 1).astype(int)
        groups = {str(k): slice(int(a), int(b)) for k, (a, b) in enumerate(zip(edges, edges[1:]))}
        held, rows = split_rows(len(X))
        grid, (inner, cross) = np.logspace(2, 7, N_ALPHAS), centred(K, rows, held)
        solved = (dual_weights(inner, cross, alpha) for alpha in grid)
        chosen = choose_alphas(solved, Y, Split(rows, held), Grid(grid, groups), 0).chosen
        del inner, cross, solved
        report["alpha_selection_seconds"] = round(time.perf_counter() - start, 4)
        start = time.perf_counter()
        find_range_anew(K, Y, columns_of(chosen), 256, np.arange(len(Y)), 0)
        report["low_rank_256_seconds"] = round(time.perf_counter() - start, 4)
        report["peak_rss_gb_with_alphas_and_low_rank"] = peak_gb()
    return report


def peer(folder: Path, q: int, name: str) -> dict:
    X, Y, new = (np.load(folder / f"{part}.npy", mmap_mode="r") for part in ("X_train", "Y_train", "X_test"))
    X, Y, new = np.array(X), np.array(Y[:, :q]), np.array(new)
    if name == "sklearn":
        from sklearn.linear_model import Ridge as Model
    else:
        from himalaya.ridge import Ridge as Model
    start = time.perf_counter()
    mean, sd = X.mean(0), X.std(0, ddof=1)
    predicted = Model(alpha=ALPHA, fit_intercept=True).fit((X - mean) / sd, Y).predict((new - mean) / sd)
    seconds = time.perf_counter() - start
    np.save(folder / "peer.npy", predicted[:, :2000])
    return {"seconds": round(seconds, 4), "peak_rss_gb": peak_gb()}


def peak_gb() -> float:
    """Of this process; getrusage's peak would be that of the parent, which made the data."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1e6, 3)


def in_a_process(script: str, *arguments) -> dict:
    command = [sys.executable, script, "--contestant", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def floor_seconds(n: int, p: int, q: int, t: int, gflops: float) -> float:
    return (n * n * p + 2 * t * n * p + n**3 / 3 + 2 * t * n * q) / gflops / 1e9


def compare(folder: Path, options: argparse.Namespace) -> dict:
    n, p, q, t = options.samples, options.voxels, options.targets, options.test
    write_data(folder, n, p, q, t)
    report = {"samples": n, "voxels": p, "targets": q, "test": t, "threads": torch.get_num_threads()}
    report |= in_a_process(__file__, "ours", folder, q, 1)
    report["floor_ratio"] = round(report["seconds"]["total"] / floor_seconds(n, p, q, t, report["matmul_gflops"]), 2)
    if options.peer != "none":
        some = min(q, options.peer_targets)
        theirs, same = (
            in_a_process(__file__, options.peer, folder, some),
            in_a_process(__file__, "ours", folder, some, 0),
        )
        a, b = (np.load(folder / f"{name}.npy") for name in ("ours", "peer"))
        report |= {
            "peer": options.peer,
            "peer_targets": some,
            "peer_seconds": theirs["seconds"],
            "peer_peak_rss_gb": theirs["peak_rss_gb"],
            "seconds_for_peer_targets": same["seconds"]["total"],
            "speed_up": round(theirs["seconds"] / same["seconds"]["total"], 2),
            "max_relative_difference": float(np.abs(a - b).max() / np.abs(b).max()),
        }
    return report


def main():
    parser = argparse.ArgumentParser()
    for name, default in (
        ("samples", 8859),
        ("voxels", 15724),
        ("targets", 91168),
        ("test", 982),
        ("peer-targets", 9000),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--peer", choices=("sklearn", "himalaya", "none"), default="sklearn")
    parser.add_argument("--contestant", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        name, folder, q, *extras = options.contestant
        result = ours(Path(folder), int(q), extras == ["1"]) if name == "ours" else peer(Path(folder), int(q), name)
    else:
        with tempfile.TemporaryDirectory() as folder:
            result = compare(Path(folder), options)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
