"""Our ridge against scikit-learn's on one problem, one alpha: `python tests/bench/ridge.py`. Prints one JSON object last."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge

sys.path.insert(0, str(Path(__file__).parents[2]))
from recon.ridge import fit_ridge

N, P, T, ALPHA = 3000, 4500, 6000, 5000.0


def main():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, P), np.float32)
    Y = X @ rng.standard_normal((P, T), np.float32) / P**0.5 + rng.standard_normal((N, T), np.float32)
    new = rng.standard_normal((100, P), np.float32)
    start = time.perf_counter()
    # alpha given; the fit also does leave-one-out R², rescaling statistics and a low-rank factorisation
    ours, _ = fit_ridge(X, Y, {"all": slice(0, T)}, [ALPHA], rank=N)
    ours_s = time.perf_counter() - start
    start = time.perf_counter()
    z = (X - X.mean(0)) / X.std(0, ddof=1)
    peer = Ridge(ALPHA).fit(z, Y)
    peer_s = time.perf_counter() - start
    expected = peer.predict((new - X.mean(0)) / X.std(0, ddof=1))
    error = float(np.abs(ours.predict(new) - expected).max() / np.abs(expected).max())
    result = {"n": N, "voxels": P, "targets": T, "ours_s": round(ours_s, 2), "sklearn_s": round(peer_s, 2)}
    print(json.dumps(result | {"ours_over_sklearn": round(ours_s / peer_s, 2), "largest_relative_difference": error}))


if __name__ == "__main__":
    main()
