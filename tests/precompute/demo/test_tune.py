"""How far latents are rescaled is chosen by what CLIP identifies after stage 2, then by pixels."""

from dataclasses import replace

import numpy as np
import pytest

from precompute.demo import tune
from precompute.demo.tune import HeldOut, best_rescaling, copy_regressors, exponents_of
from recon.bundle.bundle import load_bundle
from recon.bundle.manifest import TARGETS
from recon.files import load_json, save_array
from recon.regressors.standardise import Rescaler
from recon.settings import REGRESSORS


def test_layers_up_to_8_by_8_have_one_exponent_and_finer_ones_the_other():
    made = exponents_of([(2, 1, 1), (1, 8, 8), (1, 16, 16)], 1.0, 0.25)
    assert (made[: 2 + 64] == 1.0).all() and (made[2 + 64 :] == 0.25).all() and len(made) == 2 + 64 + 256


SCORES = {  # (coarse, fine) -> what CLIP identifies, and r
    (0.0, 0.5): (0.9904, 0.80),
    (0.5, 0.5): (0.9902, 0.85),  # as well identified, to a thousandth, and nearer in pixels
    (1.0, 1.0): (0.9890, 0.95),
}


@pytest.fixture
def chosen(monkeypatch, tiny_bundle, tmp_path):
    """What is chosen where stage 2 is judged by SCORES, and the folder that it is written to."""
    rng, opened = np.random.default_rng(0), load_bundle(tiny_bundle)
    regressors = opened.regressors | {
        "latents": {
            name: replace(
                model, rescale=Rescaler(np.full(len(model.intercept), 4.0), rng.normal(size=len(model.intercept)))
            )
            for name, model in opened.regressors["latents"].items()
        }
    }
    bundle = replace(opened, regressors=regressors)
    monkeypatch.setattr(tune, "COARSE", (0.0, 0.5, 1.0))
    monkeypatch.setattr(tune, "FINE", (0.5, 1.0))
    tried = [(c, f) for c in tune.COARSE for f in tune.FINE]

    class Judged(HeldOut):
        def scores(self, images):
            return {}

        def stage_2(self, layouts, settings):
            identified, r = SCORES.get(tried.pop(0), (0.5, 0.5))
            return {"clip_demo": identified, "pixcorr": r}

    n_voxels = bundle.subject.geometry.n_voxels
    held_out = Judged(bundle, rng.normal(size=(3, n_voxels)).astype(np.float32), judge=None)
    truth = rng.normal(size=(20, len(regressors["latents"]["mlp"].intercept)))
    save_array(tmp_path / "latents.npy", truth)
    for target in TARGETS:
        for name in REGRESSORS:
            bundle.regressors[target][name].save(tmp_path / "fitted" / f"{target}_{name}.safetensors")
    copy_regressors(tmp_path / "fitted", tmp_path)
    return best_rescaling(held_out, tmp_path / "latents.npy", tmp_path, 0), bundle, tmp_path


def test_of_what_is_identified_equally_well_the_nearest_in_pixels_is_taken(chosen):
    report, _, folder = chosen
    assert report["chosen"] == {"coarse": 0.5, "fine": 0.5} and len(report["tried"]) == 6
    assert load_json(folder / "rescaling.json") == report


def test_the_written_regressors_of_latents_have_the_softened_gains_and_others_are_as_fitted(chosen):
    _, bundle, folder = chosen
    for name in REGRESSORS:
        model = type(bundle.regressors["latents"][name]).load(folder / f"latents_{name}.safetensors")
        np.testing.assert_allclose(model.rescale.gain, 2.0)  # 4 to the power of a half
    for target in TARGETS[1:]:
        for name in REGRESSORS:
            file = f"{target}_{name}.safetensors"
            assert (folder / file).read_bytes() == (folder / "fitted" / file).read_bytes()


SEEN = {  # (scale, rescaling) of image and text together -> what CLIP identifies, and the share of right objects
    (0.4, "gain"): (0.950, 0.5),
    (0.8, "gain"): (0.980, 0.6),
    (0.8, "norm"): (0.9804, 0.9),  # as well identified, to a thousandth, and more often the right object
}


def test_what_guides_stage_2_is_chosen_by_identification_then_by_objects(monkeypatch, guided_bundle, tmp_path, rng):
    bundle = load_bundle(guided_bundle)
    text_alone = bundle.diffusion.embed([""]).shape

    class Judged(HeldOut):
        def stage_2(self, layouts, settings, meaning=None):
            assert meaning.prompts.shape[1:] == text_alone[1:] and len(layouts) == len(self.X)
            asked.append(meaning)
            return {"clip_demo": 0.9, "sees object": 0.4}

    asked = []
    held_out = Judged(bundle, rng.normal(size=(3, bundle.subject.geometry.n_voxels)).astype(np.float32), judge=None)
    monkeypatch.setattr(HeldOut, "open", lambda work, training, n: held_out)
    equal = tune.try_guidance(tmp_path, None, 0)
    assert [m.scale for m in asked] == pytest.approx([0.0, 0.4, 0.8, 1.2, 0.4, 0.8, 1.2, 0.4, 0.4])
    assert equal["chosen"] == {"balance": 0.0, "image_scale": 0.4, "embedding": "gain"}  # of equals the first
    assert not np.allclose(asked[1].embeddings, asked[-2].embeddings)  # rescaled by the norm
    np.testing.assert_array_equal(asked[0].prompts, asked[1].prompts)  # both: the text counts in full
    assert not np.allclose(asked[0].prompts, asked[4].prompts)  # the image alone: the empty prompt

    def judged(self, layouts, settings, meaning=None):
        tried = next(order)
        identified, right = SEEN.get(tried[1:], (0.9, 0.4)) if tried[0] == "both" else (0.9, 0.4)
        return {"clip_demo": identified, "sees object": right}

    scales = [("both", s, "gain") for s in tune.SCALES] + [("image", s, "gain") for s in tune.SCALES]
    order = iter([("text", 0.0, "gain"), *scales, ("both", 0.8, "norm"), ("both", 0.8, "none")])
    monkeypatch.setattr(Judged, "stage_2", judged)
    report = tune.try_guidance(tmp_path, None, 0)
    assert report["chosen"] == {"balance": 0.5, "image_scale": 0.8, "embedding": "norm"}
    assert load_json(tmp_path / "guidance.json") == report and len(report["tried"]) == 9
