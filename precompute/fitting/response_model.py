"""Pictures -> responses, small enough for the page: the encoding model of VDVAE latents alone, at low rank."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from scipy.linalg import solve_triangular

from precompute.fitting.encode import N_COMPONENTS, LatentComponents
from precompute.fitting.encoding import fit_encoding
from precompute.stage import Stage
from recon.files import open_plain, save_array, save_json
from recon.regressors.low_rank import LowRank
from recon.regressors.standardise import Rescaler

RANK = 48


def factorise(weights: np.ndarray, Z: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, float]:
    """weights (f, v) -> down (f, r), up (r, v): the best rank-r approximation of the predictions Z · weights, in order, and what
    share of their variance it keeps.

    Z (n, f), centred. Coordinates Z · down have unit variance.
    """
    L = np.linalg.cholesky(Z.T.astype(np.float64) @ Z / len(Z) + 1e-6 * np.eye(Z.shape[1]))
    U, s, V = np.linalg.svd(L.T @ weights, full_matrices=False)
    down = solve_triangular(L, U[:, :rank], lower=True, trans="T")
    return down, s[:rank, None] * V[:rank], float((s[:rank] ** 2).sum() / (s**2).sum())


def response_stage(
    latents: dict[str, Path], voxels: Path, out: Path, makers: tuple[str, str] = ("features", "prepare")
) -> Stage:
    """Makes `response.safetensors`, `response_test.npy` and a report, `response.json`.

    latents: "train" and "test" (n, n_latents); voxels (n_train, n_voxels); `makers`: the commands that make them.
    """
    outputs = tuple(out / f"response{rest}" for rest in (".safetensors", "_test.npy", ".json"))
    inputs = dict.fromkeys(latents.values(), makers[0]) | {voxels: makers[1]}
    return Stage("response", inputs, outputs, partial(fit_response, latents, voxels, out))


def fit_response(latents: dict[str, Path], voxels: Path, out: Path, rank: int = RANK) -> dict:
    """Fits "train" latents (n, n_latents) to averaged training responses (n, n_voxels); writes the files of the stage, of which
    `response_test.npy` holds coordinates (n_test, rank) of the "test" latents: the page shows predictions without encoding images.

    Through 500 principal components of the latents: those of a large VDVAE do not fit in memory. An alpha a voxel. Returns the
    rank, and the share of the predictions' variance that it keeps. Raises BadFile for a truncated file.
    """
    Z, Y = open_plain(latents["train"]), np.asarray(open_plain(voxels))
    components = LatentComponents.fit(Z, N_COMPONENTS)
    features = components(Z)
    model = fit_encoding([features], Y)
    down, up, kept = factorise(model.weights, model.standardise(features), rank)
    down /= model.standardise.sd[:, None]
    intercept = model.intercept - (model.standardise.mean @ down) @ up
    n_voxels = Y.shape[1]
    unscaled = Rescaler(np.ones(n_voxels, np.float32), np.zeros(n_voxels, np.float32))
    arrays = [np.ascontiguousarray(a, np.float32) for a in (components.directions @ down, up, intercept)]
    response = LowRank(components.standardise, *arrays, unscaled)
    test = open_plain(latents["test"])
    parts = [response.coordinates(test[k : k + 256]) for k in range(0, len(test), 256)]
    save_array(out / "response_test.npy", np.concatenate(parts).astype(np.float16))
    response.save(out / "response.safetensors")
    report = {"rank": len(up), "share_of_predicted_variance": kept}
    save_json(out / "response.json", report)
    return report
