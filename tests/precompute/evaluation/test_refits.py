"""Fits with other seeds: made once, scored by stage 1, and their spread told beside the scores."""

from dataclasses import replace

import numpy as np
import pytest
from stand_in_evaluation import corners, made_up_evaluation, made_up_inputs

from precompute.evaluation.evaluate import Options
from precompute.evaluation.model_card import section
from precompute.evaluation.refits import Learned, refit, spread_of_fits
from precompute.evaluation.summary import evaluate, order_notes
from precompute.fitting.fit import Fit, fit_stage, layer_groups
from precompute.fitting.train_network import Training
from precompute.stage import make
from recon.bundle.evaluation import load_evaluation
from recon.files import load_json
from recon.settings import LCMSettings
from recon.ui.html.score_table import score_table

TRAINING = Training(hidden=4, max_epochs=2, batch=16)


@pytest.fixture
def inputs(tiny_bundle, rng):
    return made_up_inputs(tiny_bundle, rng)


@pytest.fixture
def learned(inputs, rng, tmp_path):
    latents = rng.normal(size=(60, inputs.latents.shape[1])).astype(np.float32)
    voxels = (latents[:, :7] + rng.normal(size=(60, 7))).astype(np.float32)
    for name, values in (("voxels", voxels), ("latents", latents)):
        np.save(tmp_path / f"{name}_train.npy", values)
    job = Fit("latents", layer_groups(inputs.bundle.vdvae, inputs.bundle.n_layers), 3, TRAINING)
    voxels, latents = tmp_path / "voxels_train.npy", tmp_path / "latents_train.npy"
    return Learned(voxels, latents, make(fit_stage(job, voxels, latents, tmp_path / "fitted")))


def test_the_spread_is_that_of_stage_1s_means_over_fits_that_differ_in_their_seed_alone(inputs, learned, tmp_path):
    found = refit(learned, inputs, tmp_path, 3)
    means = load_json(tmp_path / "refits.json")["means"]
    for name in ("ridge", "mlp"):
        assert found[name]["fits"] == 3
        assert (
            found[name]["pixcorr"] == pytest.approx(np.std(means[name]["pixcorr"], ddof=1))
            and found[name]["pixcorr"] > 0
        )
        reports = [load_json(tmp_path / "refits" / str(seed) / "latents_fit.json") for seed in (1, 2, 3)]
        assert [report["mlp"]["training"]["seed"] for report in reports] == [1, 2, 3]
        assert len({report[name]["validation_r2_mean"] for report in reports}) == 3
    written = [path.stat().st_mtime_ns for path in sorted((tmp_path / "refits").rglob("*.safetensors"))]
    assert refit(learned, inputs, tmp_path, 3) == found
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "refits").rglob("*.safetensors"))] == written


def test_the_spread_travels_with_the_evaluation_and_stands_once_for_each_regressor(inputs, learned, tmp_path):
    assert spread_of_fits(tmp_path) == {}
    refit(learned, inputs, tmp_path, 2)
    inputs = replace(inputs, refits=spread_of_fits(tmp_path), describe={"clip_demo": corners})
    evaluate(inputs, tmp_path, Options(seeds=1, lcm=LCMSettings(1)))
    evaluation = load_evaluation(tmp_path)
    assert evaluation.tables["refits"] == inputs.refits
    html = score_table(evaluation)
    assert html.count("Spread between fits, ") == 2 and "over 2 fits with other seeds" in html
    assert "Fitted again with 2 other seeds" in section(evaluation)
    without = made_up_evaluation(np.zeros((6, 64, 64, 3), np.uint8))
    assert "Spread between fits" not in score_table(without) and "Fitted again" not in section(without)


def test_the_order_is_checked_for_the_mlp_as_for_ridge():
    rows = made_up_evaluation(np.zeros((40, 64, 64, 3), np.uint8)).rows
    better = [replace(row, value=2.0) if (row.source, row.stage) == ("mean", "vdvae") else row for row in rows]
    notes = [note for note in order_notes(better) if note.startswith("vdvae, PixCorr")]
    assert {note.split(" is better than ")[1].split(" ")[0] for note in notes} == {"ridge", "mlp"}
    low = [replace(row, value=-2.0) if (row.source, row.stage) == ("ceiling", "lcm") else row for row in rows]
    assert any("mlp" in note and "better than ceiling" in note for note in order_notes(low))
