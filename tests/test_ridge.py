"""Ridge against scikit-learn, its leave-one-out against brute force, its low-rank weights against the SVD."""

import numpy as np
import pytest
import torch
from scipy.linalg import svd
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from recon.files import BadFile
from recon.ridge import LowRank, decompose, fit_ridge, loo_r2


def problem(rng, n, p, t, noise=1.0):
    X = rng.normal(size=(n, p)).astype(np.float32) * 2 + 1
    return X, (X @ rng.normal(size=(p, t)) / p**0.5 + noise * rng.normal(size=(n, t)) + 3).astype(np.float32)


def reference(X, Y, alpha):
    z = (X - X.mean(0)) / X.std(0, ddof=1)
    return Ridge(alpha).fit(z, Y), lambda new: (new - X.mean(0)) / X.std(0, ddof=1)


@pytest.mark.parametrize("n,p", [(40, 9), (25, 60)], ids=["more images", "more voxels"])
def test_full_rank_predictions_are_scikit_learns(rng, n, p):
    X, Y = problem(rng, n, p, 8)
    model, _ = fit_ridge(X, Y, {"all": slice(0, 8)}, [10.0], rank=100)
    sklearn, standardise = reference(X, Y, 10.0)
    new = rng.normal(size=(7, p)).astype(np.float32)
    np.testing.assert_allclose(model.predict(new), sklearn.predict(standardise(new)), rtol=2e-4, atol=2e-4)


def test_leave_one_out_r2_is_that_of_refitting_without_each_image(rng):
    X, Y = problem(rng, 20, 6, 3)
    z = (X - X.mean(0)) / X.std(0, ddof=1)
    held_out = np.empty_like(Y)
    for k in range(20):
        rest = np.arange(20) != k
        # the hat matrix of the whole standardised problem: centring by the mean is the intercept
        held_out[k] = Ridge(5.0).fit(z[rest], Y[rest]).predict(z[k : k + 1])
    ours = loo_r2(decompose(z), torch.tensor(Y - Y.mean(0)), np.array([5.0]))[0]
    np.testing.assert_allclose(ours, r2_score(Y, held_out, multioutput="raw_values"), atol=1e-4)


def test_each_group_gets_the_alpha_that_scores_best(rng):
    X, clean = problem(rng, 80, 10, 4, noise=0.01)
    noise = rng.normal(size=(80, 4)).astype(np.float32)
    Y = np.hstack([clean, noise])
    _, report = fit_ridge(X, Y, {"signal": slice(0, 4), "noise": slice(4, 8)}, np.logspace(-2, 5, 8), 8)
    assert report.chosen["signal"] <= 1 < 100 <= report.chosen["noise"]
    for name in report.chosen:
        best = int(np.argmax(report.curve[name]))
        assert report.chosen[name] == report.alphas[best]


def test_low_rank_is_the_best_approximation_of_the_training_predictions(rng):
    X, Y = problem(rng, 50, 12, 9)
    groups = {"all": slice(0, 9)}
    full, _ = fit_ridge(X, Y, groups, [3.0], 100)
    small, report = fit_ridge(X, Y, groups, [3.0], 4)
    predictions = full.predict(X) - full.intercept
    u, s, vt = svd(predictions, full_matrices=False)
    np.testing.assert_allclose(small.predict(X) - small.intercept, (u[:, :4] * s[:4]) @ vt[:4], atol=2e-3)
    assert report.variance_kept == pytest.approx((s[:4] ** 2).sum() / (s**2).sum(), abs=1e-4)


def test_first_components_are_the_smaller_model(rng):
    X, Y = problem(rng, 50, 12, 9)
    big, _ = fit_ridge(X, Y, {"all": slice(0, 9)}, [3.0], 6)
    small, _ = fit_ridge(X, Y, {"all": slice(0, 9)}, [3.0], 2)
    truncated = big.coordinates(X)[:, :2] @ big.up[:2] + big.intercept
    np.testing.assert_allclose(truncated, small.predict(X), atol=1e-3)


def test_targets_may_be_a_memory_map(rng, tmp_path):
    X, Y = problem(rng, 30, 5, 8)
    np.save(tmp_path / "y.npy", Y)
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
    groups = {"a": slice(0, 3), "b": slice(3, 8)}
    ours, inside = (fit_ridge(X, y, groups, [1.0, 10.0], 5)[0].predict(X) for y in (mapped, Y))
    np.testing.assert_array_equal(ours, inside)


def test_rescaled_held_out_predictions_get_the_spread_of_the_targets(rng):
    X, Y = problem(rng, 4000, 10, 3, noise=1.0)
    model, _ = fit_ridge(X, Y, {"all": slice(0, 3)}, [1.0], 3)
    new = model.rescale(model.predict(rng.normal(size=(4000, 10)).astype(np.float32) * 2 + 1))
    np.testing.assert_allclose(new.std(0), Y.std(0), rtol=0.05)
    np.testing.assert_allclose(new.mean(0), Y.mean(0), atol=0.1)


def test_saved_weights_predict_alike_and_damage_is_told(rng, tmp_path):
    X, Y = problem(rng, 30, 5, 8)
    model, _ = fit_ridge(X, Y, {"all": slice(0, 8)}, [1.0], 5)
    path = tmp_path / "ridge.safetensors"
    model.save(path)
    np.testing.assert_allclose(LowRank.load(path).predict(X), model.predict(X), atol=0.02)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadFile, match="truncated"):
        LowRank.load(path)
    with pytest.raises(BadFile, match="missing"):
        LowRank.load(tmp_path / "none.safetensors")


def test_rows_must_match(rng):
    with pytest.raises(ValueError, match="got 3 and 4"):
        fit_ridge(np.zeros((4, 2)), np.zeros((3, 2)), {"all": slice(0, 2)}, [1.0], 1)
