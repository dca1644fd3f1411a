"""The memory that `import arrays` takes: python tests/bench/bench_import.py [--trials 100000 --voxels 20000 --kind npy|h5]

Noise of that shape is written to disk (4 bytes a value, 8 GB by default; HDF5 is copied once more), imported by the command in a
process of its own, and removed. The aim is at most 3 GB at 100,000 trials of 20,000 voxels. Prints one JSON object last.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).parents[2]
BLOCK = 1000  # trials
REPEATS = 4
AIM = 3.0  # GB


def write(folder: Path, n_trials: int, n_voxels: int, kind: str) -> None:
    """Every image four times; a tenth of them, a thousand at most, for the test; sessions of 750 trials."""
    rng = np.random.default_rng(0)
    n_images = -(-n_trials // REPEATS)
    image = rng.permutation(np.arange(n_trials) % n_images)
    n_test = min(1000, n_images // 10)
    rows = [f"{k},{t // 750},{'test' if k < n_test else 'train'}" for t, k in enumerate(image)]
    (folder / "trials.csv").write_text("image,session,split\n" + "\n".join(rows) + "\n")
    np.save(folder / "images.npy", rng.integers(0, 256, (n_images, 64, 64, 3), dtype=np.uint8))
    spans = [(a, min(a + BLOCK, n_trials)) for a in range(0, n_trials, BLOCK)]
    if kind == "npy":
        array = np.lib.format.open_memmap(folder / "responses.npy", "w+", np.float32, (n_trials, n_voxels))
        for a, b in spans:
            array[a:b] = rng.standard_normal((b - a, n_voxels), np.float32)
        return
    with h5py.File(folder / "responses.h5", "w") as f:
        data = f.create_dataset("responses", (n_trials, n_voxels), np.float32, chunks=(min(250, n_trials), 200))
        for a, b in spans:
            data[a:b] = rng.standard_normal((b - a, n_voxels), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--voxels", type=int, default=20_000)
    parser.add_argument("--kind", choices=["npy", "h5"], default="npy")
    how = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "experiment"
        folder.mkdir()
        write(folder, how.trials, how.voxels, how.kind)
        command = [sys.executable, "-m", "precompute", "import", "arrays", str(folder), "--out", f"{place}/out"]
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=os.environ, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    print(json.dumps(vars(how) | {"peak_gb": round(peak, 2), "aim_gb": AIM, "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main()
