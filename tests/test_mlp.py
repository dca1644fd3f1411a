"""The MLP learns what there is to learn, resumes where it stopped, and never trains on its validation images."""

import numpy as np
import pytest
import torch

from recon.files import BadFile
from recon.mlp import MLP, Training, fit_mlp, fit_network
from recon.regression import Standardiser

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
        if state["epoch"] == 2:
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
    assert not (tmp_path / "b.pt").exists()


def test_targets_outside_the_basis_keep_their_mean(rng, tmp_path):
    X, Z = problem(rng)
    basis = np.eye(3, 5, dtype=np.float32)
    Y = np.hstack([Z, rng.normal(7, 1, (600, 2))]).astype(np.float32)
    mlp, _ = fit_mlp(X, Y, basis, Y.mean(0), QUICK, tmp_path)
    np.testing.assert_allclose(mlp.predict(X)[:, 3:], np.repeat(Y.mean(0)[None, 3:], 600, 0), rtol=1e-6)


def test_saved_weights_predict_alike_and_damage_is_told(rng, tmp_path):
    X, Z = problem(rng, 100)
    basis = np.eye(3, 5, dtype=np.float32)
    mlp, _ = fit_mlp(X, Z @ basis, basis, np.zeros(5, np.float32), Training(hidden=4, max_epochs=1), tmp_path)
    mlp.save(tmp_path / "mlp.safetensors")
    np.testing.assert_allclose(MLP.load(tmp_path / "mlp.safetensors").predict(X), mlp.predict(X), atol=0.02)
    (tmp_path / "mlp.safetensors").write_bytes(b"not weights")
    with pytest.raises(BadFile, match="not a readable safetensors file"):
        MLP.load(tmp_path / "mlp.safetensors")


def test_rows_must_match(tmp_path):
    with pytest.raises(ValueError, match="got 3 and 4"):
        fit_network(np.zeros((4, 2)), np.zeros((3, 2)), Standardiser.fit(np.zeros((4, 2))), QUICK, tmp_path / "c.pt")
