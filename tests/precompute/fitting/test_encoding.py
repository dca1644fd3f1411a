"""Per-voxel scores against scikit-learn, scipy and closed forms; the ncsnr of simulated repeats is recovered."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control, pearsonr, permutation_test
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from precompute.fitting.encoding import estimate_ncsnr, fit_encoding, noise_ceiling, permutation_p, score_voxels
from recon.brain.voxel_scores import VoxelScores, load_scores, save_scores
from recon.files import BadFile


def test_ncsnr_of_simulated_repeats_is_recovered(rng):
    true = np.array([0.0, 0.3, 0.8, 1.5])
    signal = rng.normal(size=(4000, 1, 4)) * true
    estimated = estimate_ncsnr(signal + rng.normal(size=(4000, 3, 4)))
    np.testing.assert_allclose(estimated[1:], true[1:], rtol=0.1)
    assert estimated[0] < 0.12


def test_noise_ceiling_is_the_closed_form_for_equal_and_mixed_repeats():
    three = noise_ceiling(np.array([0.45]), np.array([3, 3, 3]))
    assert three == pytest.approx(100 * 0.45**2 / (0.45**2 + 1 / 3))
    a, b, c = 5, 3, 2  # images seen 3, 2, 1 times
    mixed = noise_ceiling(np.array([0.45]), np.repeat([3, 2, 1], [a, b, c]))
    assert mixed == pytest.approx(100 * 0.45**2 / (0.45**2 + (a / 3 + b / 2 + c) / (a + b + c)))


def test_a_perfect_model_of_noisy_voxels_scores_its_noise_ceiling(rng):
    ncsnr = np.full(200, 0.7, np.float32)
    signal = rng.normal(size=(1000, 200)) * 0.7
    measured = signal + rng.normal(size=(3, 1000, 200)).mean(0)
    scores = score_voxels(signal, measured, ncsnr, np.full(1000, 3))
    assert 100 * scores.r2.mean() == pytest.approx(scores.noise_ceiling.mean(), abs=1)


def test_scores_are_scikit_learns_and_scipys(rng):
    predicted, measured = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    scores = score_voxels(predicted, measured, np.ones(4, np.float32), np.full(30, 3))
    np.testing.assert_allclose(scores.r2, r2_score(measured, predicted, multioutput="raw_values"), rtol=1e-5)
    np.testing.assert_allclose(scores.r, [pearsonr(p, m)[0] for p, m in zip(predicted.T, measured.T)], rtol=1e-5)


def test_each_voxel_gets_scikit_learns_ridge_at_its_own_alpha(rng):
    F = rng.normal(size=(60, 9)).astype(np.float32)
    voxels = (F @ rng.normal(size=(9, 5)) + rng.normal(size=(60, 5)) * [0.1, 1, 3, 10, 30]).astype(np.float32)
    model = fit_encoding([F], voxels, np.logspace(-1, 3, 5))
    assert model.alpha[0, 0] < model.alpha[0, 4]
    z = (F - F.mean(0)) / F.std(0, ddof=1)
    for v in range(5):
        expected = Ridge(model.alpha[0, v]).fit(z, voxels[:, v]).predict(z)
        np.testing.assert_allclose(model.predict(F)[:, v], expected, rtol=1e-3, atol=1e-3)


def two_bands(rng) -> tuple[list[np.ndarray], np.ndarray]:
    """80 features that say nothing of voxel 1, and 4 that alone do; voxel 0 is the other way round."""
    wide, narrow = (rng.normal(size=(100, width)).astype(np.float32) for width in (80, 4))
    signal = np.stack([wide @ rng.normal(size=80) / 9, narrow @ rng.normal(size=4) / 2], 1)
    return [wide, narrow], (signal + 0.3 * rng.normal(size=(100, 2))).astype(np.float32)


def test_each_band_has_its_own_alpha_and_the_penalised_least_squares_solution(rng):
    bands, voxels = two_bands(rng)
    model = fit_encoding(bands, voxels, np.logspace(-1, 5, 13))
    F = np.hstack(bands).astype(float)
    z, Y = (F - F.mean(0)) / F.std(0, ddof=1), voxels - voxels.mean(0)
    for v in range(2):
        penalty = np.diag(np.repeat(model.alpha[:, v], [80, 4]))
        expected = z @ np.linalg.solve(z.T @ z + penalty, z.T @ Y[:, v]) + voxels[:, v].mean()
        np.testing.assert_allclose(model.predict(np.hstack(bands))[:, v], expected, atol=2e-3)
    ratio = model.alpha[0] / model.alpha[1]
    assert ratio[0] == pytest.approx(1) and ratio[1] > 50


def test_a_second_band_costs_little_where_it_says_nothing_and_helps_where_it_does(rng):
    (wide, narrow), voxels = two_bands(rng)

    def held_out(bands) -> np.ndarray:
        model = fit_encoding([band[:70] for band in bands], voxels[:70])
        return r2_score(voxels[70:], model.predict(np.hstack(bands)[70:]), multioutput="raw_values")

    alone, both = held_out([wide]), held_out([wide, narrow])
    assert both[1] > alone[1] + 0.5 and both[0] > alone[0] - 0.05


def test_rows_that_differ_and_bad_voxels_are_told(rng):
    F, voxels = rng.normal(size=(2, 20, 4)).astype(np.float32)
    with pytest.raises(ValueError, match="expected as many rows of features as of voxels, got 20 and 19"):
        fit_encoding([F], voxels[:19])
    with pytest.raises(ValueError, match="expected as many images as numbers of repeats, got 20 and 21"):
        score_voxels(voxels, voxels, np.ones(4), np.full(21, 3))
    voxels[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in 1 of them \(first: voxel 1\)"):
        fit_encoding([F], voxels)


def test_share_of_the_ceiling_is_undefined_below_ten_percent():
    scores = VoxelScores(np.array([0.2, 0.2]), np.zeros(2), np.array([40.0, 9.9]), 10, np.ones(2), np.ones(2))
    assert scores.r2_over_ceiling[0] == pytest.approx(50)
    assert np.isnan(scores.r2_over_ceiling[1])


def test_scores_survive_the_disk_and_damage_is_told(tmp_path):
    r2, r, ceiling, p, q = (np.arange(3, dtype=np.float32) + k for k in range(5))
    scores = VoxelScores(r2, r, ceiling, 10, p, q)
    save_scores(tmp_path / "s.h5", scores)
    read = load_scores(tmp_path / "s.h5")
    np.testing.assert_array_equal(read.noise_ceiling, scores.noise_ceiling)
    (tmp_path / "s.h5").write_bytes((tmp_path / "s.h5").read_bytes()[:200])
    with pytest.raises(BadFile, match="truncated or damaged"):
        load_scores(tmp_path / "s.h5")


def test_p_is_scipys_permutation_test(rng):
    measured = rng.normal(size=(40, 6))
    predicted = measured * [0, 0.1, 0.2, 0.3, 0.4, 3] + rng.normal(size=(40, 6))
    found = permutation_p(predicted, measured, 4000)
    for v in range(6):
        exact = permutation_test(
            (predicted[:, v],),
            lambda x, v=v: pearsonr(x, measured[:, v])[0],
            permutation_type="pairings",
            alternative="greater",
            n_resamples=4000,
            random_state=1,
        )
        assert found[v] == pytest.approx(exact.pvalue, abs=0.03)
    assert found[5] == pytest.approx(1 / 4001) and 0.02 < found[0] < 0.98


def test_where_nothing_is_predicted_p_is_uniform_and_q_finds_nothing(rng):
    scores = score_voxels(*rng.normal(size=(2, 50, 600)), np.ones(600, np.float32), np.full(50, 3))
    assert abs(np.quantile(scores.p, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.07
    np.testing.assert_allclose(scores.q, false_discovery_control(scores.p), rtol=1e-6)
    assert (scores.q > 0.05).all()
