"""Ridge against scikit-learn, on held-out images too, and its low-rank weights against the SVD."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import cho_factor, cho_solve, svd
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from precompute.fitting.alphas import Grid, columns_of
from precompute.fitting.dual import centred, dual_weights, gram, multiply, standardised, stream
from precompute.fitting.fit_ridge import fit_ridge
from recon.files import BadFile
from recon.regressors.low_rank import LowRank
from recon.regressors.rows import read_rows
from recon.regressors.standardise import split_rows


def problem(rng, n, p, t, noise=1.0):
    X = rng.normal(size=(n, p)).astype(np.float32) * 2 + 1
    return X, (X @ rng.normal(size=(p, t)) / p**0.5 + noise * rng.normal(size=(n, t)) + 3).astype(np.float32)


def fit(X, Y, groups, alphas, rank):
    return fit_ridge(X, Y, Grid(np.asarray(alphas), groups), rank, split_rows(len(X))[0])


def reference(X, Y, alpha):
    z = (X - X.mean(0)) / X.std(0, ddof=1)
    return Ridge(alpha).fit(z, Y), lambda new: (new - X.mean(0)) / X.std(0, ddof=1)


@pytest.mark.parametrize("n,p", [(40, 9), (25, 60)], ids=["more images", "more voxels"])
def test_full_rank_predictions_are_scikit_learns(rng, n, p):
    X, Y = problem(rng, n, p, 8)
    model, _ = fit(X, Y, {"all": slice(0, 8)}, [10.0], 100)
    sklearn, standardise = reference(X, Y, 10.0)
    new = rng.normal(size=(7, p)).astype(np.float32)
    np.testing.assert_allclose(model.predict(new), sklearn.predict(standardise(new)), rtol=2e-4, atol=2e-4)


def test_weights_are_scipys_cholesky_solution_in_float64(rng):
    X, Y = problem(rng, 300, 700, 4)
    new = rng.normal(size=(20, 700)).astype(np.float32) * 2 + 1
    standardise, Z = standardised(X)
    z = torch.as_tensor(standardise(new))
    ours = dual_weights(gram(Z), z @ Z.T, 50.0).numpy() @ (Y - Y.mean(0))
    Z64, z64 = ((x.astype(np.float64) - X.mean(0, np.float64)) / X.std(0, ddof=1, dtype=np.float64) for x in (X, new))
    exact = z64 @ Z64.T @ cho_solve(cho_factor(Z64 @ Z64.T + 50 * np.eye(300)), Y - Y.mean(0, np.float64))
    assert np.abs(ours - exact).max() <= 1e-4 * np.abs(exact).max()


def test_float32_predictions_are_scikit_learns_in_float64_to_one_in_ten_thousand(rng):
    """More voxels than images that share strong dimensions, as in fMRI: where float32 has least to spare."""
    hidden = rng.normal(size=(700, 20)) * np.arange(1, 21) ** -0.7
    X = (5 * hidden @ rng.normal(size=(20, 1500)) + rng.normal(size=(700, 1500))).astype(np.float32)
    Y = (hidden @ rng.normal(size=(20, 30)) + rng.normal(size=(700, 30)) + 3).astype(np.float32)
    held, rows = split_rows(700)
    _, report = fit_ridge(X, Y, Grid(np.array([100.0]), {"all": slice(0, 30)}), 5, held)
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    z = (X - X.mean(0)) / X.std(0, ddof=1)
    exact = Ridge(100.0).fit(z[rows], Y[rows]).predict(z[held])
    assert np.abs(report.predicted - exact).max() <= 1e-4 * np.abs(exact).max()
    assert np.linalg.norm(report.predicted - exact) <= 1e-4 * np.linalg.norm(exact - Y[rows].mean(0))


def test_gram_matrix_is_the_product_whatever_the_size_of_its_blocks(rng, monkeypatch):
    Z = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    for side in (7, 25, 100):
        monkeypatch.setattr("precompute.fitting.dual.SIDE", side)
        torch.testing.assert_close(gram(Z), Z @ Z.T)


def test_an_alpha_too_small_for_float32_is_told(rng):
    Z = torch.as_tensor(rng.normal(size=(30, 3)).astype(np.float32))
    K = gram(1000 * Z)
    with pytest.raises(ValueError, match="alpha large enough"):
        dual_weights(K, K, 1e-9)


def test_held_out_images_are_scored_by_a_fit_to_the_others(rng):
    X, Y = problem(rng, 60, 9, 4)
    held, rows = split_rows(60)
    _, report = fit_ridge(X, Y, Grid(np.array([5.0]), {"a": slice(0, 1), "b": slice(1, 4)}), 100, held)
    z = (X - X.mean(0)) / X.std(0, ddof=1)
    expected = r2_score(Y[held], Ridge(5.0).fit(z[rows], Y[rows]).predict(z[held]), multioutput="raw_values")
    np.testing.assert_allclose(report.r2, expected, atol=1e-4)
    np.testing.assert_allclose(report.curve["a"], expected[0], atol=1e-4)
    assert report.rank_curve["4"] == pytest.approx(report.rank_curve["all"], abs=1e-3)


def test_centring_in_the_kernel_is_centring_of_the_inputs(rng):
    Z = torch.as_tensor(rng.normal(2, 1, size=(12, 5)).astype(np.float32))
    rows, new = np.arange(8), np.arange(8, 12)
    inner, cross = centred(Z @ Z.T, rows, new)
    shifted = Z - Z[:8].mean(0)
    torch.testing.assert_close(inner, shifted[:8] @ shifted[:8].T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(cross, shifted[8:] @ shifted[:8].T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_of_a_file_are_those_of_the_array(rng, tmp_path, dtype):
    Y = rng.normal(size=(23, 6)).astype(dtype)
    np.save(tmp_path / "y.npy", Y)
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
    for array in (mapped, mapped[3:], mapped[:, ::2], mapped[:, 2:5], mapped[2:, 1:][:, 1:3], Y):
        np.testing.assert_array_equal(read_rows(array, slice(4, 9)), np.asarray(array[4:9], np.float32))
        np.testing.assert_array_equal(read_rows(array, np.array([1, 7, 19])), np.asarray(array[[1, 7, 19]], np.float32))
        np.testing.assert_array_equal(torch.cat([b for _, b in stream(array, 5)]), np.asarray(array, np.float32))


def test_each_group_gets_the_alpha_that_scores_best(rng):
    X, clean = problem(rng, 800, 10, 4, noise=0.01)
    noise = rng.normal(size=(800, 4)).astype(np.float32)
    Y = np.hstack([clean, noise])
    groups = {"signal": slice(0, 4), "noise": slice(4, 8)}
    _, report = fit(X, Y, groups, np.logspace(-2, 5, 8), 8)
    assert (report.chosen[:4] <= 1).all() and (report.chosen[4:] >= 100).all()
    for name, g in groups.items():
        assert (report.chosen[g] == report.alphas[np.argmax(report.curve[name])]).all()


def test_per_target_every_column_gets_its_own_best_alpha_and_scikit_learns_predictions(rng, tmp_path, monkeypatch):
    X, Y = problem(rng, 90, 12, 7)
    Y += 10 * rng.normal(size=Y.shape).astype(np.float32) * (np.arange(7) % 2)
    np.save(tmp_path / "y.npy", Y)
    held, rows = split_rows(90)
    alphas, groups = np.logspace(-1, 5, 7), {"a": slice(0, 3), "b": slice(3, 7)}
    Y = np.load(tmp_path / "y.npy", mmap_mode="r")
    monkeypatch.setattr("precompute.fitting.spectrum.BLOCK", 2)
    model, report = fit_ridge(X, Y, Grid(alphas, groups), 100, held, per_target=True)
    z = (X - X.mean(0)) / X.std(0, ddof=1)
    sklearn = [Ridge(a).fit(z[rows], Y[rows]).predict(z[held]) for a in alphas]
    r2 = np.stack([r2_score(Y[held], p, multioutput="raw_values") for p in sklearn])
    np.testing.assert_array_equal(report.chosen, alphas[r2.argmax(0)])
    assert len(set(report.chosen)) > 1
    np.testing.assert_allclose(report.curve["b"], r2[:, 3:].mean(1), atol=1e-4)
    expected = Ridge(report.chosen).fit(z, Y).predict(z)
    np.testing.assert_allclose(model.predict(X), expected, atol=0.02)  # targets have SDs of 1 and 10


@pytest.mark.parametrize("per_target", [False, True])
def test_constant_targets_do_not_enter_the_mean_r2_of_their_group(rng, per_target):
    X, Y = problem(rng, 120, 10, 6)
    with_constant = np.hstack([33.1 + 1e-5 * rng.normal(size=(120, 2)), Y]).astype(np.float32)
    held, rows = split_rows(120)
    alphas = [1.0, 100.0]
    _, report = fit_ridge(X, with_constant, Grid(np.array(alphas), {"all": slice(0, 8)}), 3, held, per_target)
    z = (X - X.mean(0)) / X.std(0, ddof=1)
    expected = [r2_score(Y[held], Ridge(alpha).fit(z[rows], Y[rows]).predict(z[held])) for alpha in alphas]
    np.testing.assert_allclose(report.curve["all"], expected, atol=1e-3)
    assert np.isnan(report.r2[:2]).all() and np.isfinite(report.r2[2:]).all()


def test_low_rank_is_the_best_approximation_of_the_training_predictions(rng):
    X, Y = problem(rng, 50, 12, 9)
    groups = {"all": slice(0, 9)}
    full, _ = fit(X, Y, groups, [3.0], 100)
    small, _ = fit(X, Y, groups, [3.0], 4)
    predictions = full.predict(X) - full.intercept
    u, s, vt = svd(predictions, full_matrices=False)
    np.testing.assert_allclose(small.predict(X) - small.intercept, (u[:, :4] * s[:4]) @ vt[:4], atol=2e-3)


def test_first_components_are_the_smaller_model(rng):
    X, Y = problem(rng, 50, 12, 9)
    big, _ = fit(X, Y, {"all": slice(0, 9)}, [3.0], 6)
    small, _ = fit(X, Y, {"all": slice(0, 9)}, [3.0], 2)
    np.testing.assert_allclose(big.predict(X, components=2), small.predict(X), atol=1e-3)
    np.testing.assert_array_equal(big.predict(X, components=6), big.predict(X))


@pytest.mark.parametrize("k", [0, 4, -1])
def test_a_number_of_components_that_there_is_not_is_told(rng, k):
    X, Y = problem(rng, 30, 5, 3)
    model, _ = fit(X, Y, {"all": slice(0, 3)}, [3.0], 3)
    with pytest.raises(ValueError, match=f"expected a number of components from 1 to 3, got {k}"):
        model.predict(X, components=k)


def test_the_rank_curve_is_of_a_fit_that_has_not_seen_the_held_out_images(rng):
    X, Y = problem(rng, 200, 30, 40)
    held, rows = split_rows(200)
    _, report = fit_ridge(X, Y, Grid(np.array([3.0]), {"all": slice(0, 40)}), 4, held)
    z = (X - X.mean(0)) / X.std(0, ddof=1)
    sklearn = Ridge(3.0).fit(z[rows], Y[rows])
    mean = Y[rows].mean(0)
    _, _, vt = svd(sklearn.predict(z[rows]) - mean, full_matrices=False)
    for r in (8, 16):
        p = (sklearn.predict(z[held]) - mean) @ vt[:r].T @ vt[:r] + mean
        expected = 1 - ((Y[held] - p) ** 2).sum() / ((Y[held] - Y[held].mean(0)) ** 2).sum()
        assert report.rank_curve[str(r)] == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(np.abs((report.basis * vt[:4]).sum(1)), 1, atol=1e-3)


def test_constant_voxels_weigh_nothing(rng):
    X, Y = problem(rng, 60, 5, 3)
    X[:, 2] = 7
    model, _ = fit(X, Y, {"all": slice(0, 3)}, [3.0], 3)
    assert not model.down[2].any() and np.isfinite(model.down).all()
    changed = X.copy()
    changed[:, 2] = -100
    np.testing.assert_array_equal(model.predict(changed), model.predict(X))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", ["held out", "fitted"])
def test_nan_and_infinite_targets_are_told(rng, bad, row):
    X, Y = problem(rng, 300, 5, 9)
    held, rows = split_rows(300)
    Y[held[1] if row == "held out" else rows[-1], 6] = bad
    with pytest.raises(ValueError, match=r"got NaN or infinity in 1 of them \(first: target 6\)"):
        fit_ridge(X, Y, Grid(np.array([3.0]), {"all": slice(0, 9)}), 3, held)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinite_voxels_are_told(rng, bad):
    X, Y = problem(rng, 30, 5, 3)
    X[7, 4] = bad
    with pytest.raises(ValueError, match=r"got NaN or infinity in 1 of them \(first: voxel 4\)"):
        fit(X, Y, {"all": slice(0, 3)}, [3.0], 3)


def test_targets_may_be_a_memory_map(rng, tmp_path):
    X, Y = problem(rng, 30, 5, 8)
    np.save(tmp_path / "y.npy", Y)
    mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
    groups = {"a": slice(0, 3), "b": slice(3, 8)}
    ours, inside = (fit(X, y, groups, [1.0, 10.0], 5)[0].predict(X) for y in (mapped, Y))
    np.testing.assert_array_equal(ours, inside)


def test_rescaled_held_out_predictions_get_the_spread_of_the_targets(rng):
    X, Y = problem(rng, 4000, 10, 3, noise=1.0)
    model, _ = fit(X, Y, {"all": slice(0, 3)}, [1.0], 3)
    new = model.rescale(model.predict(rng.normal(size=(4000, 10)).astype(np.float32) * 2 + 1))
    np.testing.assert_allclose(new.std(0), Y.std(0), rtol=0.05)
    np.testing.assert_allclose(new.mean(0), Y.mean(0), atol=0.1)


def test_saved_weights_predict_alike_and_damage_is_told(rng, tmp_path):
    X, Y = problem(rng, 30, 5, 8)
    model, _ = fit(X, Y, {"all": slice(0, 8)}, [1.0], 5)
    path = tmp_path / "ridge.safetensors"
    model.save(path)
    np.testing.assert_allclose(LowRank.load(path).predict(X), model.predict(X), atol=0.02)
    replace(model, down=np.asfortranarray(model.down)).save(path)
    np.testing.assert_allclose(LowRank.load(path).predict(X), model.predict(X), atol=0.02)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadFile, match="truncated"):
        LowRank.load(path)
    with pytest.raises(BadFile, match="missing"):
        LowRank.load(tmp_path / "none.safetensors")


def test_rows_must_match(rng):
    with pytest.raises(ValueError, match="got 3 and 4"):
        fit(np.zeros((4, 2)), np.zeros((3, 2)), {"all": slice(0, 2)}, [1.0], 1)


@pytest.mark.parametrize("runs", [True, False])
def test_products_with_centred_targets_are_the_same_by_runs_and_by_single_columns(rng, runs):
    Y = rng.normal(5, 1, size=(700, 256)).astype(np.float32)
    chosen = np.where(np.arange(256) < 128, 1.0, 10.0) if runs else rng.choice([1.0, 10.0], 256)
    columns = columns_of(chosen)
    assert isinstance(columns[0][1], slice) == runs and len(columns) == 2
    rows = np.flatnonzero(rng.random(700) < 0.8)
    weights = {a: torch.as_tensor(rng.normal(size=(9, len(rows))).astype(np.float32)) for a in (1.0, 10.0)}
    products, mean = multiply(weights, Y, columns, rows)
    centred_targets = Y[rows].astype(np.float64) - Y[rows].mean(0, dtype=np.float64)
    for alpha, w in weights.items():
        here = chosen == alpha
        np.testing.assert_allclose(products.numpy()[:, here], w.numpy() @ centred_targets[:, here], atol=2e-3)
    np.testing.assert_allclose(mean, Y[rows].mean(0, dtype=np.float64), rtol=1e-6)


class Counted(np.ndarray):
    """Counts the numbers that are taken from it."""

    taken = 0

    def __getitem__(self, where):
        values = np.asarray(super().__getitem__(where))
        Counted.taken += values.size
        return values


@pytest.mark.parametrize("per_target", [False, True])
def test_targets_are_read_eight_times_whatever_the_alphas(rng, monkeypatch, per_target):
    monkeypatch.setattr(Counted, "taken", 0)
    X, Y = problem(rng, 400, 30, 3000)  # far more targets than vote
    held, groups = split_rows(len(X))[0], {"a": slice(0, 1000), "b": slice(1000, 3000)}
    fit_ridge(X, Y.view(Counted), Grid(np.logspace(0, 4, 9), groups), 16, held, per_target)
    assert Counted.taken <= Y.size * (8 + 2 * len(held) / len(X)) + 256 * len(X) * len(groups)
