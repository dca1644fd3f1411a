"""The demo world is deterministic, keeps its held-out combinations out of training, and hides what it must hide."""

import numpy as np
import pytest

pytest.importorskip("skia", reason="skia needs the system's libGL and libEGL", exc_type=ImportError)

from precompute.demo import scenes
from precompute.demo.brush import LIGHTS
from precompute.demo.cortex import BANDS, DISCS, build_cortex
from precompute.demo.forward import SPAN, channel_maps, draw_tuning, receptive_fields
from precompute.demo.objects import OBJECTS
from precompute.demo.places import SETTINGS
from precompute.demo.scan import standardise_sessions
from precompute.demo.world import _draw
from recon.images import area_average


def draw(index, seed=0):
    return scenes.sample_scene(index, seed, scenes.combinations())


def test_a_scene_is_the_same_picture_every_time_and_unlike_its_neighbours():
    again = scenes.render(draw(3))
    assert (scenes.render(draw(3)) == again).all()
    assert np.abs(again.astype(int) - scenes.render(draw(4))).mean() > 5
    assert again.shape == (192, 192, 3) and again.dtype == np.uint8


def test_the_world_is_rich_enough():
    assert len(SETTINGS) >= 9 and len(OBJECTS) >= 12 and len(LIGHTS) >= 4


@pytest.mark.parametrize("thing", OBJECTS)
def test_every_object_can_be_seen(thing):
    setting = next(s for s in SETTINGS if scenes.fits(s, thing))
    scene = scenes.Scene(setting, "noon", thing, "red", 0.5, 1.0, 0.5, None, None, 0.0, (0, 0))
    other = next(o for o in OBJECTS if o != thing and scenes.fits(setting, o))
    without = scenes.Scene(setting, "noon", other, "red", 0.5, 1.0, 0.5, None, None, 0.0, (0, 0))
    changed = np.abs(scenes.render(scene).astype(int) - scenes.render(without)).max(2) > 30
    assert changed.mean() > 0.03


@pytest.mark.parametrize("colour", ["red", "green", "blue", "yellow"])
@pytest.mark.parametrize("light", LIGHTS)
def test_object_colours_stay_legible_in_every_light(light, colour):
    def tent(c):
        return scenes.render(scenes.Scene("meadow", light, "tent", c, 0.5, 1.2, 0.5, None, None, 0.0, (0, 0)))

    base = tent("white").astype(int)
    shown = tent(colour).astype(int)
    body = np.abs(shown - base).max(2) > 20
    r, g, b = shown[body].mean(0)
    order = {"red": r > max(g, b), "green": g > max(r, b), "blue": b > max(r, g), "yellow": min(r, g) > b}
    assert body.mean() > 0.02 and order[colour]


def test_captions_are_five_different_sentences_that_name_object_and_colour():
    scene = draw(11)
    five = scenes.captions(scene)
    assert len(set(five)) == 5
    assert all(scene.object in c and scene.colour in c for c in five)


def test_training_never_shows_an_unseen_combination_and_a_third_of_the_test_does():
    unseen = scenes.unseen_combinations(0)
    assert not {s.combination for s in _draw("corpus", 500, 0)} & unseen
    assert _draw("corpus", 500, 0)[:100] == _draw("train", 100, 0)
    test = [s.combination in unseen for s in _draw("test", 90, 0)]
    assert sum(test) == 30
    assert {s.seed for s in _draw("corpus", 50, 0)}.isdisjoint(s.seed for s in _draw("test", 50, 0))


def test_area_average_is_the_block_mean(rng):
    x = rng.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    expected = np.rint(x[1, :2, :2, 0].mean())
    assert area_average(x, 2)[1, 0, 0, 0] == expected
    with pytest.raises(ValueError, match="multiple of 3"):
        area_average(x, 3)


@pytest.fixture(scope="module")
def cortex():
    return build_cortex(0)


def test_cortex_has_all_areas_on_both_sides_and_enough_null_voxels(cortex):
    geometry = cortex.geometry
    assert 3000 <= geometry.n_voxels <= 6000
    for name in (*BANDS, *DISCS):
        sides = set(geometry.hemisphere[geometry.rois[name]])
        assert sides == ({0} if name == "VWFA" else {0, 1}), name
    assert (draw_tuning(cortex, 0).ncsnr == 0).mean() >= 0.1


def test_areas_see_the_contralateral_half_and_ventral_v1_the_upper_field(cortex):
    tuning = draw_tuning(cortex, 0)
    v1 = cortex.area == "V1"
    left = cortex.geometry.hemisphere == 0
    assert (tuning.x[v1 & left] > -0.01).all() and (tuning.x[v1 & ~left] < 0.01).all()
    from nilearn.datasets import load_fsaverage

    z = load_fsaverage("fsaverage5")["inflated"].parts["left"].coordinates[:, 2]
    here = v1 & left & (cortex.eccentricity > 1)
    assert np.corrcoef(z[cortex.geometry.vertex[here]], tuning.y[here])[0, 1] < -0.7


def test_receptive_fields_sit_where_the_tuning_says(cortex):
    tuning = draw_tuning(cortex, 0)
    fields = receptive_fields(tuning)
    central = np.flatnonzero((np.hypot(tuning.x, tuning.y) < 2) & (tuning.size < 0.8))[:20]
    degrees = (np.arange(32) + 0.5) / 32 * SPAN - SPAN / 2
    maps = fields[central].reshape(-1, 32, 32)
    total = maps.sum((1, 2))
    np.testing.assert_allclose(total, 1, atol=0.02)
    np.testing.assert_allclose((maps.sum(1) @ degrees) / total, tuning.x[central], atol=0.05)
    np.testing.assert_allclose(-(maps.sum(2) @ degrees) / total, tuning.y[central], atol=0.05)


def test_gabor_energy_prefers_its_own_orientation_and_frequency():
    x = np.arange(128) / 128
    wave = 127 + 100 * np.sin(2 * np.pi * 8 * x)
    vertical = np.repeat(np.repeat(wave[None], 128, 0)[..., None], 3, -1).astype(np.uint8)  # varies along x
    pair = np.stack([vertical, vertical.transpose(1, 0, 2)])
    energy = channel_maps(pair)[:, :48].mean(2).reshape(2, 6, 8)
    assert energy[0].sum(1).argmax() == 0 and energy[1].sum(1).argmax() == 3
    assert energy[0, 0].argmax() == np.abs(np.log(np.geomspace(2, 22, 8) / 8)).argmin()


def test_sessions_are_standardised_by_their_training_trials_alone(rng):
    table = np.array([(0, k, r) for k in range(20) for r in range(3)] + [(1, 0, 0), (1, 1, 0)], np.int32)
    betas = rng.integers(-300, 300, (62, 4)).astype(np.int16)
    first = standardise_sessions(betas, table, {"train": 20, "test": 2})
    np.testing.assert_allclose(first["train"].reshape(-1, 4).mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(first["train"].reshape(-1, 4).std(0, ddof=1), 1, atol=1e-5)
    betas[60:] = 30_000
    second = standardise_sessions(betas, table, {"train": 20, "test": 2})
    np.testing.assert_array_equal(first["train"], second["train"])
    assert np.isnan(second["test"][:, 1:]).all()
