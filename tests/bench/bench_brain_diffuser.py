"""Brain-Diffuser's whole regression, VDVAE latents and 77 + 257 CLIP tokens, by one factor an alpha, against a Ridge a token.

    python tests/bench/bench_brain_diffuser.py [--samples 8859] [--voxels 15724] [--test 982] [--latents 91168] [--token 768]

Prints one JSON object last. The peer, scikit-learn in float32 with X in memory, is timed on 9,000 latents and on three tokens, one
Ridge each as Brain-Diffuser's scripts do, and scaled: `peer_seconds` is extrapolated. Ours runs whole, from targets on disk.
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
from bench_ridge import Laps, in_a_process, predict, write_data

sys.path.insert(0, str(Path(__file__).parents[2]))
from precompute.fitting.dual import dual_weights, gram, standardised

ALPHAS = {"latents": 50_000.0, "text": 100_000.0, "image": 60_000.0}
TOKENS = {"text": 77, "image": 257}
PEER_LATENTS, PEER_TOKENS = 9000, 3


def write_tokens(folder: Path, n: int, width: int) -> None:
    rng = np.random.default_rng(1)
    for name, count in TOKENS.items():
        Y = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (n, count * width))
        for k in range(0, n, 256):
            Y[k : k + 256] = rng.standard_normal(Y[k : k + 256].shape, np.float32)


def ours(folder: Path) -> dict:
    X, new = (np.load(folder / f"X_{part}.npy", mmap_mode="r") for part in ("train", "test"))
    laps = Laps()
    standardise, Z = standardised(X)
    K, cross = gram(Z), torch.as_tensor(standardise(new)) @ Z.T
    del Z
    laps.end("gram")
    for name, file in {"latents": "Y_train", "text": "text", "image": "image"}.items():
        Y = np.load(folder / f"{file}.npy", mmap_mode="r")
        predict(dual_weights(K, cross, ALPHAS[name]), Y)
        laps.end(name)
    return laps.report()


def peer(folder: Path, width: int) -> dict:
    from sklearn.linear_model import Ridge

    X, new = (np.array(np.load(folder / f"X_{part}.npy")) for part in ("train", "test"))
    mean, sd = X.mean(0), X.std(0, ddof=1)
    X, new = (X - mean) / sd, (new - mean) / sd

    def seconds(file: str, columns: slice) -> float:
        Y = np.array(np.load(folder / f"{file}.npy", mmap_mode="r")[:, columns])
        start = time.perf_counter()
        Ridge(alpha=ALPHAS["latents"]).fit(X, Y).predict(new)
        return round(time.perf_counter() - start, 2)

    tokens = [seconds("text", slice(k * width, (k + 1) * width)) for k in range(PEER_TOKENS)]
    return {"latents": seconds("Y_train", slice(PEER_LATENTS)), "tokens": tokens}


def compare(folder: Path, options: argparse.Namespace) -> dict:
    write_data(folder, options.samples, options.voxels, options.latents, options.test)
    write_tokens(folder, options.samples, options.token)
    mine, theirs = in_a_process(__file__, "ours", folder), in_a_process(__file__, "peer", folder, options.token)
    token, some = statistics.median(theirs["tokens"]), min(PEER_LATENTS, options.latents)
    a_target = max(0.0, theirs["latents"] - token) / max(1, some - options.token)
    latents = theirs["latents"] + a_target * (options.latents - some)
    peer_seconds = latents + sum(TOKENS.values()) * token
    return {
        **{name: getattr(options, name) for name in ("samples", "voxels", "latents", "token", "test")},
        **mine,
        "peer_seconds": round(peer_seconds, 1),
        "peer_seconds_are": f"extrapolated from {some} latents and {PEER_TOKENS} tokens",
        "peer_measured": theirs,
        "speed_up": round(peer_seconds / mine["seconds"]["total"], 1),
    }


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("samples", 8859), ("voxels", 15724), ("latents", 91168), ("token", 768), ("test", 982)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--contestant", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        name, folder, *width = options.contestant
        result = ours(Path(folder)) if name == "ours" else peer(Path(folder), int(width[0]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            result = compare(Path(folder), options)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
