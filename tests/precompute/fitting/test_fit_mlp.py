"""The MLP learns what there is to learn, resumes where it stopped, and never trains on its validation images.

Averaged with a linear model it is at least as good as either on those.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from precompute.fitting.fit_mlp import Linear, best_share, fit_mlp
from precompute.fitting.train_network import STUDENT, Trainer, Training, fit_network, jumped
from recon.files import BadFile
from recon.regressors.mlp import MLP, Network, predict
from recon.regressors.standardise import Standardiser, r2_per_target, split_rows

QUICK = Training(hidden=16, input_dropout=0.0, hidden_dropout=0.0, learning_rate=3e-3, weight_decay=0.0, max_epochs=25)


def problem(rng, n=600, nonlinear=False):
    X = rng.normal(size=(n, 8)).astype(np.float32)
    Z = X @ rng.normal(size=(8, 3)).astype(np.float32)
    if nonlinear:
        Z = np.abs(Z)
    return X, Z.astype(np.float32)


def test_a_linear_map_is_recovered(rng, tmp_path):
    X, Z = problem(rng, 4000)
    _, report = fit_network(X, Z, Standardiser.fit(X), QUICK, tmp_path / "c.pt")
    assert max(r2 for *_, r2 in report.curve) > 0.98


def test_the_hidden_layer_learns_what_a_linear_map_cannot(rng, tmp_path):
    X, Z = problem(rng, 2000, nonlinear=True)
    training = Training(hidden=64, input_dropout=0, hidden_dropout=0, learning_rate=3e-3, weight_decay=0, max_epochs=40)
    _, report = fit_network(X, Z, Standardiser.fit(X), training, tmp_path / "c.pt")
    assert max(r2 for *_, r2 in report.curve) > 0.5  # |linear| is uncorrelated with any linear function


def test_in_bfloat16_a_linear_map_is_recovered_too(rng, tmp_path, monkeypatch):
    monkeypatch.setattr("recon.device.trains_in_bfloat16", lambda: True)
    X, Z = problem(rng, 1000)
    network, report = fit_network(X, Z, Standardiser.fit(X), QUICK, tmp_path / "c.pt")
    assert max(r2 for *_, r2 in report.curve) > 0.9
    assert network.inward.weight.dtype == torch.float32


def test_validation_images_do_not_influence_the_weights(rng, tmp_path):
    X, Z = problem(rng)
    standardise = Standardiser.fit(X)
    one_epoch = Training(hidden=16, max_epochs=1)
    first, report = fit_network(X, Z, standardise, one_epoch, tmp_path / "a.pt")
    changed = Z.copy()
    changed[report.validation_rows] = rng.permutation(Z[report.validation_rows])
    # the same spread, other values: only the validation score may change
    second, _ = fit_network(X, changed, standardise, one_epoch, tmp_path / "b.pt")
    for a, b in zip(first.state_dict().values(), second.state_dict().values()):
        torch.testing.assert_close(a, b)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(rng, tmp_path, monkeypatch):
    X, Z = problem(rng, 200)
    standardise = Standardiser.fit(X)
    training = Training(hidden=8, max_epochs=4)
    whole, _ = fit_network(X, Z, standardise, training, tmp_path / "a.pt")

    class Stop(Exception):
        pass

    saved = torch.save

    def save_twice(state, path):
        saved(state, path)
        if len(state["curve"]) == 2:
            path.replace(tmp_path / "b.pt")
            raise Stop

    monkeypatch.setattr(torch, "save", save_twice)
    with pytest.raises(Stop):
        fit_network(X, Z, standardise, training, tmp_path / "b.pt")
    monkeypatch.setattr(torch, "save", saved)
    resumed, report = fit_network(X, Z, standardise, training, tmp_path / "b.pt")
    assert len(report.curve) == 4
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()):
        torch.testing.assert_close(a, b)


def blown_up(epochs):
    """A step of training that in these epochs, numbered from 1, first makes the weights fifty times as large."""
    step = Trainer.step

    def spoilt(self, batch):
        if len(self.curve) + 1 in epochs and self.spoilt_in != len(self.curve):
            self.spoilt_in = len(self.curve)
            with torch.no_grad():
                for layer in self.network.last_layers:
                    layer.weight *= 50
        return step(self, batch)

    return spoilt


@pytest.fixture
def spoil(monkeypatch):
    def spoil(*epochs):
        monkeypatch.setattr(Trainer, "spoilt_in", None, raising=False)
        monkeypatch.setattr(Trainer, "step", blown_up(epochs))

    return spoil


def test_a_training_whose_loss_jumps_is_rolled_back_and_learns_on(rng, tmp_path, spoil):
    X, Z = problem(rng, 2000)
    standardise = Standardiser.fit(X)
    _, calm = fit_network(X, Z, standardise, QUICK, tmp_path / "a.pt")
    spoil(4)
    network, report = fit_network(X, Z, standardise, QUICK, tmp_path / "b.pt")
    assert calm.rolled_back == [] and report.rolled_back == [4]
    assert report.curve[3][1] > 10 * report.curve[2][1]
    held = report.validation_rows
    assert r2_score(Z[held], predict(network, standardise(X[held]))) > max(r2 for *_, r2 in calm.curve) - 0.02


def test_a_training_whose_loss_keeps_jumping_is_refused(rng, tmp_path, spoil):
    X, Z = problem(rng)
    spoil(*range(2, 20))
    with pytest.raises(ValueError, match=r"jumped in epochs \[2, 3, 4, 5\].*choose a learning rate under 0.003"):
        fit_network(X, Z, Standardiser.fit(X), QUICK, tmp_path / "c.pt")


@pytest.mark.parametrize(
    "loss, earlier, expected",
    [
        (0.634, [0.35, 0.2, 0.116], True),
        (0.2, [0.35, 0.2, 0.116], False),
        (0.99, [1.0, 0.98], False),  # little can be learned: nothing to lose
        (3e-5, [1.0, 1e-5], False),  # all has been learned
        (float("nan"), [1.0, 0.5], True),
        (float("inf"), [], True),
        (7.0, [], False),
    ],
)
def test_a_jump_undoes_most_of_what_was_learned(loss, earlier, expected):
    assert jumped(loss, earlier) == expected


def ignorant(basis, intercept, n_voxels, n) -> Linear:
    """A linear model that knows the mean alone."""
    r, n_held = len(basis), len(split_rows(n)[0])
    return Linear(np.zeros((n_voxels, r), np.float32), basis, intercept, np.zeros((n_held, r), np.float32))


def least_squares(X, Y, basis) -> Linear:
    """An ordinary fit to all images, and for the held-out ones to the others; Y is centred."""
    held, rows = split_rows(len(X))
    z, Z = Standardiser.fit(X)(X), Y @ basis.T
    weights = np.linalg.lstsq(z, Z, rcond=None)[0].astype(np.float32)
    return Linear(weights, basis, np.zeros(Y.shape[1], np.float32), z[held] @ np.linalg.lstsq(z[rows], Z[rows])[0])


def curved(rng, n=400):
    """Targets that are half linear in the voxels, half not, in a basis of five; centred."""
    X = rng.normal(size=(n, 8)).astype(np.float32)
    Z = X @ rng.normal(size=(8, 5)) * [5, 4, 3, 2, 1] + np.abs(X[:, :5]) * 3 + rng.normal(size=(n, 5))
    basis = np.linalg.qr(rng.normal(size=(9, 5)))[0].T.astype(np.float32)
    return X, ((Z - Z.mean(0)) @ basis).astype(np.float32), basis


def test_targets_outside_the_basis_keep_their_mean(rng, tmp_path):
    X, Z = problem(rng)
    basis = np.eye(3, 5, dtype=np.float32)
    Y = np.hstack([Z, rng.normal(7, 1, (600, 2))]).astype(np.float32)
    mlp, _ = fit_mlp(X, Y, ignorant(basis, Y.mean(0), 8, 600), QUICK, tmp_path)
    np.testing.assert_allclose(mlp.predict(X)[:, 3:], np.repeat(Y.mean(0)[None, 3:], 600, 0), rtol=1e-6)


@pytest.mark.parametrize("training", [QUICK, replace(STUDENT, hidden=5, learning_rate=1e-2, max_epochs=3)])
def test_first_components_are_the_best_model_of_the_predictions_of_their_rank(rng, tmp_path, training):
    X, Y, basis = curved(rng)
    mlp, _ = fit_mlp(X, Y, least_squares(X, Y, basis), training, tmp_path)
    predicted = mlp.predict(X)
    u, s, vt = np.linalg.svd(predicted - predicted.mean(0), full_matrices=False)
    for k in (1, 2, 4):
        expected = (u[:, :k] * s[:k]) @ vt[:k] + predicted.mean(0)
        np.testing.assert_allclose(mlp.predict(X, components=k), expected, atol=2e-3)
    np.testing.assert_array_equal(mlp.predict(X, components=5), predicted)
    np.testing.assert_allclose(mlp.basis @ mlp.basis.T, np.eye(5), atol=1e-5)
    with pytest.raises(ValueError, match="expected a number of components from 1 to 5, got 6"):
        mlp.predict(X, components=6)


def test_the_share_of_the_network_is_the_one_of_a_fine_grid_with_the_highest_mean_r2(rng):
    basis = np.linalg.qr(rng.normal(size=(9, 4)))[0].T
    signal = rng.normal(size=(50, 4)) * [5, 3, 1, 0.3]
    truth = signal @ basis + rng.normal(size=(50, 9)) * np.linspace(0.1, 3, 9)  # reaches out of the basis
    network, linear = (s * signal + rng.normal(size=(50, 4)) for s in (1.1, 0.5))
    grid = np.linspace(0, 1, 1001)
    r2 = [r2_per_target(truth, (w * network + (1 - w) * linear) @ basis).mean() for w in grid]
    assert 0.1 < grid[np.argmax(r2)] < 0.95
    assert best_share(truth, linear, network, basis) == pytest.approx(grid[np.argmax(r2)], abs=1e-3)
    exact = signal @ basis
    assert best_share(exact, signal, network, basis) == pytest.approx(0, abs=1e-9)
    assert best_share(exact, linear, signal, basis) == pytest.approx(1)
    assert 0 <= best_share(np.ones((50, 9)), linear, network, basis) <= 1  # constant targets count for nothing


def test_on_held_out_images_the_average_is_at_least_as_good_as_either(rng, tmp_path):
    X, Y, basis = curved(rng)
    linear, training = least_squares(X, Y, basis), replace(QUICK, hidden=64, batch=32)
    Z = Y @ basis.T
    _, alone = fit_network(X, Z, Standardiser.fit(X), training, tmp_path / "alone.pt")
    mlp, report = fit_mlp(X, Y, linear, training, tmp_path)
    held = report.validation_rows

    def r2(predicted):
        return r2_per_target(Y[held], predicted).mean()

    averaged = r2(report.validation_coefficients @ mlp.basis + mlp.intercept)
    assert 0 < report.share < 1
    assert averaged >= max(r2(linear.held_out @ basis), r2(alone.validation_coefficients @ basis))


def test_the_fitted_model_is_the_average_of_network_and_linear_model(rng, tmp_path):
    X, Y, basis = curved(rng)
    linear, training = least_squares(X, Y, basis), replace(QUICK, hidden=64, batch=32)
    standardise = Standardiser.fit(X)
    network, _ = fit_network(X, Y @ basis.T, standardise, training, tmp_path / "alone.pt")
    mlp, report = fit_mlp(X, Y, linear, training, tmp_path)
    with torch.no_grad():
        alone = network(torch.as_tensor(standardise(X))).numpy()
    expected = (report.share * alone + (1 - report.share) * (standardise(X) @ linear.weights)) @ basis
    assert 0 < report.share < 1
    np.testing.assert_allclose(mlp.predict(X), expected, atol=1e-3)


def test_the_students_network_is_that_of_his_formula_and_learns_targets_directly(rng, tmp_path):
    X, Y, basis = curved(rng, 300)
    Y += 100  # nobody takes the mean away for it
    training = replace(STUDENT, learning_rate=3e-2, max_epochs=12)
    mlp, report = fit_mlp(X, Y, least_squares(X, Y, basis), training, tmp_path)
    student = torch.nn.Sequential(torch.nn.Linear(8, 128), torch.nn.LayerNorm(128), torch.nn.ReLU())
    layers = ("0", "inward"), ("1", "norm")
    own = mlp.network.state_dict()
    student.load_state_dict({f"{a}.{k}": own[f"{b}.{k}"] for a, b in layers for k in ("weight", "bias")})
    with torch.no_grad():
        hidden = student(torch.as_tensor(X))  # raw voxels
        expected = mlp.network.outward(hidden).numpy() @ mlp.basis + mlp.intercept
    np.testing.assert_allclose(mlp.predict(X), expected, atol=1e-4)
    assert "linear.weight" not in own and report.share == 1
    held = report.validation_rows
    assert r2_per_target(Y[held], mlp.predict(X[held])).mean() > 0.5
    mlp.save(tmp_path / "mlp.safetensors")
    np.testing.assert_allclose(MLP.load(tmp_path / "mlp.safetensors").predict(X), mlp.predict(X), atol=0.1)


def test_constant_voxels_do_not_matter_and_bad_ones_are_told(rng, tmp_path):
    X, Y, basis = curved(rng, 100)
    X[:, 3] = 7
    training = Training(hidden=4, max_epochs=1)
    mlp, _ = fit_mlp(X, Y, least_squares(X, Y, basis), training, tmp_path)
    assert np.isfinite(mlp.predict(X)).all()
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in 1 of them"):
        mlp.predict(X)


def test_saved_weights_predict_alike_and_damage_is_told(rng, tmp_path):
    X, Z = problem(rng, 100)
    basis = np.eye(3, 5, dtype=np.float32)
    linear = ignorant(basis, np.zeros(5, np.float32), 8, 100)
    mlp, _ = fit_mlp(X, Z @ basis, linear, Training(hidden=4, max_epochs=1), tmp_path)
    mlp.save(tmp_path / "mlp.safetensors")
    np.testing.assert_allclose(MLP.load(tmp_path / "mlp.safetensors").predict(X), mlp.predict(X), atol=0.02)
    (tmp_path / "mlp.safetensors").write_bytes(b"not weights")
    with pytest.raises(BadFile, match="not a readable safetensors file"):
        MLP.load(tmp_path / "mlp.safetensors")


def test_rows_must_match(tmp_path):
    with pytest.raises(ValueError, match="got 3 and 4"):
        fit_network(np.zeros((4, 2)), np.zeros((3, 2)), Standardiser.fit(np.zeros((4, 2))), QUICK, tmp_path / "c.pt")


@pytest.mark.parametrize("faster", [True, False])
def test_training_runs_in_bfloat16_where_that_is_faster_and_nowhere_else(rng, tmp_path, monkeypatch, faster):
    seen, forward = set(), Network.forward

    def watched(self, x):
        out = forward(self, x)
        seen.add((self.training, out.dtype))
        return out

    monkeypatch.setattr("recon.device.trains_in_bfloat16", lambda: faster)
    monkeypatch.setattr(Network, "forward", watched)
    X, Z = rng.normal(size=(2, 60, 4)).astype(np.float32)
    network, _ = fit_network(X, Z, Standardiser.fit(X), replace(QUICK, max_epochs=1), tmp_path / "c.pt")
    assert seen == {(True, torch.bfloat16 if faster else torch.float32), (False, torch.float32)}
    assert {p.dtype for p in network.parameters()} == {torch.float32}
