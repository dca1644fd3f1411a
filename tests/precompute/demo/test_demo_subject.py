"""The shipped demo subject against what the simulator knows, and against the numbers that its README gives."""

import json
import re

import h5py
import numpy as np
import pytest
from conftest import ROOT
from scipy.stats import linregress, spearmanr
from transformers import CLIPVisionModelWithProjection

from precompute.demo.cortex import build_cortex
from precompute.demo.forward import EARLY, draw_tuning
from precompute.evaluation.model_card import combinations_table, section, with_section
from precompute.fitting.clip import image_embeddings
from precompute.fitting.encoding import noise_ceiling
from recon.bundle.evaluation import load_evaluation
from recon.decoders.diffusion import Meaning, refine
from recon.images import area_average
from recon.metrics import pixel_correlation, two_way_identification
from recon.reconstruct import decoded, prompt_embeddings
from recon.responses import predicted_response, with_noise
from recon.settings import LCMSettings, Settings
from recon.ui.tabs.image_to_brain_tab import LEAD


@pytest.fixture(scope="module")
def evaluation():
    return load_evaluation(ROOT / "assets" / "demo")


@pytest.fixture(scope="module")
def truth(demo_bundle):
    cortex = build_cortex(0)
    assert (cortex.geometry.vertex == demo_bundle.subject.geometry.vertex).all()
    tuning = draw_tuning(cortex, 0)
    return cortex.area, tuning.ncsnr, noise_ceiling(tuning.ncsnr, demo_bundle.subject.test.n_repeats) / 100


def test_hardly_a_voxel_beats_its_true_ceiling_by_more_than_sampling_error(demo_bundle, truth):
    _, _, ceiling = truth
    n = demo_bundle.scores.n_images
    # a perfect model's r² over n images is uncertain by about 2 r (1 - r²)/√n (delta method on Fisher's z); three of them
    error = 3 * 2 * np.sqrt(ceiling) * (1 - ceiling) / np.sqrt(n) + 3 / n
    assert (demo_bundle.scores.r2 <= ceiling + error).mean() >= 0.99


def test_null_voxels_have_no_positive_median_r2(demo_bundle, truth):
    _, ncsnr, _ = truth
    assert np.median(demo_bundle.scores.r2[ncsnr == 0]) <= 0


def test_r2_ranks_early_voxels_as_the_true_ceiling_does(demo_bundle, truth):
    area, _, ceiling = truth
    early = np.isin(area, EARLY)
    assert spearmanr(demo_bundle.scores.r2[early], ceiling[early])[0] >= 0.8


def test_every_area_is_explained_at_least_half(demo_bundle, truth):
    area, ncsnr, ceiling = truth
    for name in demo_bundle.subject.geometry.rois:
        here = (area == name) & (ncsnr > 0)
        assert demo_bundle.scores.r2[here].sum() >= 0.5 * ceiling[here].sum(), name


def test_estimated_ncsnr_is_near_the_true_one(demo_bundle, truth):
    _, ncsnr, _ = truth
    assert np.abs(demo_bundle.subject.ncsnr - ncsnr)[ncsnr > 0.2].mean() < 0.05
    slope = linregress(ncsnr[ncsnr > 0], demo_bundle.subject.ncsnr[ncsnr > 0]).slope
    assert abs(slope - 1) < 0.05


def test_null_voxels_are_not_discovered_more_often_than_the_false_discovery_rate_allows(demo_bundle, truth):
    _, ncsnr, ceiling = truth
    found = demo_bundle.scores.q <= 0.05
    assert found[ncsnr == 0].sum() <= 0.05 * found.sum()
    assert found[ceiling > 0.2].mean() > 0.9
    np.testing.assert_allclose(demo_bundle.scores.true_noise_ceiling, 100 * ceiling, atol=0.01)


@pytest.fixture(scope="module")
def layouts(demo_bundle):
    test = demo_bundle.subject.test
    truth = area_average(test.images, 64)
    X = test.averaged()

    def pictures(z):
        return np.concatenate([demo_bundle.vdvae.decode(z[k : k + 50]) for k in range(0, len(z), 50)])

    return truth, {
        "ridge": pictures(decoded("latents", X, demo_bundle, "ridge")),
        "mlp": pictures(decoded("latents", X, demo_bundle, "mlp")),
        "ceiling": pictures(demo_bundle.own_latents(truth)),
    }


def test_pictures_are_identified_and_the_manifest_says_how_well(layouts, evaluation):
    truth, pictures = layouts
    scores = {k: float(two_way_identification(p, truth).mean()) for k, p in pictures.items()}
    assert scores["ridge"] >= 0.90 and scores["ceiling"] >= 0.99 and scores["mlp"] >= scores["ridge"] - 0.02
    for name in pictures:
        found = {metric: evaluation.find("vdvae", name, metric).value for metric in ("pixels", "pixcorr")}
        assert scores[name] == pytest.approx(found["pixels"], abs=0.002)
        assert pixel_correlation(pictures[name], truth).mean() == pytest.approx(found["pixcorr"], abs=0.002)


def test_shuffled_responses_are_at_chance(layouts, evaluation):
    truth, pictures = layouts
    order = np.random.default_rng(0).permutation(len(truth))
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    assert abs(two_way_identification(pictures["ridge"][other], truth).mean() - 0.5) <= 0.05
    for stage in ("vdvae", "lcm"):
        for metric in ("pixels", "clip_demo"):
            row = evaluation.find(stage, "shuffled", metric)
            assert row.low - 0.01 <= row.chance <= row.high + 0.01


def test_what_image_to_brain_says_of_noiseless_responses_was_measured(demo_bundle, layouts):
    truth, pictures = layouts
    clean = predicted_response(truth, demo_bundle)
    noisy = np.stack([with_noise(x, demo_bundle.subject.ncsnr, 3, seed) for seed, x in enumerate(clean)])

    def correlation(X):
        z = decoded("latents", X, demo_bundle, "mlp")
        return pixel_correlation(
            np.concatenate([demo_bundle.vdvae.decode(z[k : k + 50]) for k in range(0, len(z), 50)]), truth
        )

    alone, measured, scans = correlation(clean), pixel_correlation(pictures["mlp"], truth), correlation(noisy)
    told = [float(number) for number in re.findall(r"by (\.\d\d)", LEAD)]
    assert told == pytest.approx([alone.mean(), measured.mean(), scans.mean()], abs=0.006)
    worse = int(re.search(r"(\d+) % of the pictures come out worse", LEAD)[1])
    assert f"On {len(truth)} test pictures" in LEAD and worse == pytest.approx(100 * (alone < measured).mean(), abs=1)


def test_stage_2_is_identified_better_than_stage_1_by_clip(demo_bundle, layouts):
    test, n = demo_bundle.subject.test, 60
    vision = CLIPVisionModelWithProjection.from_pretrained(ROOT / "assets" / "demo" / "vision").float().eval()
    truth = image_embeddings(vision, test.images[:n])
    layout = layouts[1]["mlp"][:n]
    prompts = prompt_embeddings(test.averaged()[:n], demo_bundle, Settings())
    *_, last = refine(demo_bundle.diffusion, layout, Meaning(prompts), LCMSettings(), range(n))
    stage_1, stage_2 = (
        two_way_identification(image_embeddings(vision, pictures), truth).mean() for pictures in (layout, last.images)
    )
    assert stage_2 > stage_1 and stage_2 >= 0.85


def test_ceilings_are_above_reconstructions_and_those_above_nulls(evaluation):
    for stage in ("vdvae", "lcm"):
        values = {
            s: evaluation.find(stage, s, "clip_demo").value for s in ("ridge", "mlp", "ceiling", "shuffled", "mean")
        }
        assert values["ceiling"] >= values["ridge"] - 0.01
        assert min(values["ridge"], values["mlp"]) > max(values["shuffled"], values["mean"]) + 0.2
    for name in ("ridge", "mlp"):
        stage_1, stage_2 = (evaluation.find(stage, name, "clip_demo").value for stage in ("vdvae", "lcm"))
        assert stage_2 > stage_1 and stage_2 >= 0.85
        for attribute, share in evaluation.tables["captions"][name].items():
            assert share > 2 * evaluation.tables["captions"]["shuffled"][attribute]


def test_the_mlp_explains_more_of_held_out_latents_than_ridge_and_as_much_of_the_tests_to_a_thousandth(evaluation):
    latent = evaluation.tables["latent_r2"]
    assert latent["mlp"]["cv"] >= latent["ridge"]["cv"] and latent["mlp"]["test"] >= latent["ridge"]["test"] - 0.001


def test_every_mlp_is_one_its_network_has_a_share_of_each_target(evaluation):
    shares = evaluation.tables["shares"]
    assert shares.keys() == {"latents", "prompt", "image"} and min(shares.values()) > 0


def test_the_bundles_readme_gives_its_evaluation(evaluation):
    text = (ROOT / "assets" / "demo" / "README.md").read_text(encoding="utf-8")
    assert with_section(text, section(evaluation)) == text


def test_the_card_has_seen_and_unseen_combinations_apart(demo_bundle, evaluation):
    scores = h5py.File(ROOT / "assets" / "demo" / "image_scores.h5")
    unseen = np.array([bool(label.get("unseen")) for label in demo_bundle.subject.test.labels])
    table = combinations_table(evaluation).splitlines()
    for name, title in (("ridge", "ridge"), ("mlp", "MLP")):
        values = scores["lcm"][name]["pixcorr"][:]
        for mask, word in ((~unseen, "seen"), (unseen, "unseen")):
            (line,) = [line for line in table if line.startswith(f"| {title}, {word} (n = {mask.sum()})")]
            assert float(line.split("|")[2]) == pytest.approx(values[mask].mean(), abs=6e-4)


def test_held_out_pictures_look_like_themselves_through_the_vdvae(demo_bundle):
    images = area_average(demo_bundle.subject.test.images[:60], 64)
    whole = demo_bundle.vdvae.decode(demo_bundle.vdvae.encode(images))
    error = ((images.astype(float) - whole) ** 2).mean((1, 2, 3))
    assert (10 * np.log10(255**2 / error)).mean() >= 24


def test_weights_stay_small_and_provenance_is_recorded():
    files = [p for p in (ROOT / "assets").rglob("*") if p.is_file()]
    assert max(p.stat().st_size for p in files) < 40e6
    assert sum(p.stat().st_size for p in files if p.suffix == ".safetensors") < 110e6
    provenance = json.loads((ROOT / "assets" / "demo" / "provenance.json").read_text(encoding="utf-8"))
    assert {"stages", "settings", "reports"} <= provenance.keys()


def steps_across_blocks(images):
    """Mean absolute step across the borders of blocks of 4 pixels, over that inside them."""
    steps = [np.moveaxis(np.abs(np.diff(images.astype(float), axis=axis)), axis, 0) for axis in (1, 2)]
    across = np.arange(images.shape[1] - 1) % 4 == 3
    return sum(s[across].mean() for s in steps) / sum(s[~across].mean() for s in steps)


def test_the_readme_tells_how_much_of_blocks_is_left_in_layouts(layouts):
    truth, pictures = layouts
    ratio = steps_across_blocks(pictures["ceiling"][:100]) / steps_across_blocks(truth[:100])
    text = " ".join((ROOT / "assets" / "demo" / "README.md").read_text(encoding="utf-8").split())
    assert f"latents are {ratio:.2f} times as large" in text


def test_what_the_readme_says_of_the_networks_is_what_their_training_measured():
    folder = ROOT / "assets" / "demo"
    text = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    reports = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["reports"]
    psnr, found = reports["vdvae.training"]["held_out_psnr_db"].values(), reports["clip.training"]["held_out_retrieval"]
    whole, regressed = (f"{value:.1f} dB" for value in psnr)
    assert f"at {whole} PSNR with all its layers, at {regressed} with the regressed ones" in text
    percent = [f"{100 * found[f'{what}_top1']:.0f} %" for what in ("caption_of_image", "image_of_caption")]
    assert f"among 300 in {percent[0]}, and the picture of a caption in {percent[1]}" in text
    samples = reports["samples"]
    for name, title in {
        "true pictures": "true pictures",
        "4 LCM steps": "4 LCM steps",
        "1 LCM steps": "1 LCM step",
    }.items():
        shares = [f"{100 * samples[name][a]:.0f} %" for a in ("setting", "light", "colour", "object")]
        assert f"| {title} | {' | '.join(shares)} | {samples['sharpness'][name]:.1f} |" in text
    share = samples["sharpness"]["4 LCM steps"] / samples["sharpness"]["true pictures"]
    lost = 100 * (samples["25 steps, guidance 3.0"]["object"] - samples["4 LCM steps"]["object"])
    assert f"loses {lost:.0f} points of its teacher's objects, and its pictures are smoother: {share:.2f} of" in text
