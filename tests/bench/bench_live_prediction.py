"""One live prediction at NSD's shape, 15,724 voxels -> 91,168 latents, and what rank-256 weights keep of ridge.

    python tests/bench/bench_live_prediction.py [--voxels 15724] [--targets 91168] [--rank 256]

Prints one JSON object last. `predict_ms`: median time of one prediction with random weights read back from a float16 file of
`weights_mb`; `matvec_ms`: of the product with the (rank, targets) matrix alone, in the same run. `r2_kept`: mean R² of new images
by the first 256 components over that by full ridge, on structured data at moderate shape (1,200 images, 2,000 voxels, 3,000
targets; voxels and targets share 300 dimensions of falling strength).
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from precompute.fitting.alphas import Grid
from precompute.fitting.fit_ridge import fit_ridge
from recon.regressors.low_rank import LowRank
from recon.regressors.standardise import Rescaler, Standardiser, r2_per_target, split_rows

REPEATS = 30


def random_weights(p: int, q: int, rank: int) -> LowRank:
    rng = np.random.default_rng(0)
    down, up = rng.standard_normal((p, rank), np.float32) / 100, rng.standard_normal((rank, q), np.float32)
    rescale = Rescaler(np.ones(q, np.float32), np.zeros(q, np.float32))
    return LowRank(Standardiser.none(p), down, up, np.zeros(q, np.float32), rescale)


def median_ms(call) -> float:
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return round(1000 * statistics.median(times), 2)


def structured(rng: np.random.Generator, n: int, p: int, q: int):
    """Training and new voxels and targets."""
    strength = np.arange(1, 301, dtype=np.float32)[:, None] ** -0.7
    into, out = (rng.standard_normal((300, m), np.float32) * strength for m in (p, q))
    hidden = rng.standard_normal((n + 500, 300), np.float32)
    X, Y = (hidden @ to + rng.standard_normal((n + 500, to.shape[1]), np.float32) for to in (into, out))
    return X[:n], Y[:n], X[n:], Y[n:]


def r2_kept(n: int = 1200, p: int = 2000, q: int = 3000) -> float:
    X, Y, new, truth = structured(np.random.default_rng(1), n, p, q)
    model, _ = fit_ridge(X, Y, Grid(np.logspace(2, 5, 7), {"all": slice(0, q)}), n, split_rows(n)[0])
    part, full = (r2_per_target(truth, model.predict(new, components=k)).mean() for k in (256, None))
    return round(float(part / full), 4)


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("voxels", 15724), ("targets", 91168), ("rank", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ridge.safetensors"
        random_weights(options.voxels, options.targets, options.rank).save(path)
        size, model = path.stat().st_size, LowRank.load(path)
    x = np.random.default_rng(2).standard_normal((1, options.voxels), np.float32)
    coordinates = model.coordinates(x)
    report = vars(options) | {
        "threads": torch.get_num_threads(),
        "weights_mb": round(size / 1e6, 1),
        "predict_ms": median_ms(lambda: model.predict(x)),
        "matvec_ms": median_ms(lambda: coordinates @ model.up),
        "r2_kept": r2_kept(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
