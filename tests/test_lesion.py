"""Areas silenced, boosted, or active alone; fewer repeats and components: against loops and closed forms."""

import numpy as np
import pytest

from recon.bundle import load_bundle
from recon.lesion import apply_gains
from recon.optimal import optimal_response
from recon.reconstruct import chosen_response, decoded, most_components, reconstruct_layout
from recon.settings import LCMSettings, Settings, stage_1_key

ROIS = {"V1": np.array([1, 1, 0, 0], bool), "FFA": np.array([0, 1, 1, 0], bool)}


@pytest.fixture
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


def test_gains_multiply_voxel_by_voxel_and_where_areas_overlap(rng):
    response = rng.normal(size=4).astype(np.float32)
    expected = [response[0] * 0.5, response[1] * 0.5 * 2, response[2] * 2, response[3]]
    np.testing.assert_allclose(apply_gains(response, ROIS, [("V1", 0.5), ("FFA", 2)]), expected, rtol=1e-6)
    assert np.array_equal(apply_gains(response, ROIS, []), response)
    assert not apply_gains(response, ROIS, [("V1", 0)])[:2].any()


def test_unknown_areas_and_gains_out_of_range_are_told():
    with pytest.raises(ValueError, match="expected some of V1, FFA, got 'V9'"):
        apply_gains(np.zeros(4), ROIS, [("V9", 1)])
    for gain in (-0.1, 2.1, np.nan):
        with pytest.raises(ValueError, match="gain of V1: expected a number from 0 to 2.0"):
            apply_gains(np.zeros(4), ROIS, [("V1", gain)])
        with pytest.raises(ValueError, match="gain of V1: expected a number from 0 to 2.0"):
            Settings(gains=(("V1", gain),))
    with pytest.raises(ValueError, match="each ROI once"):
        Settings(gains=(("V1", 1), ("V1", 2)))


def test_components_and_repeats_out_of_range_are_told():
    with pytest.raises(ValueError, match="components: expected a whole number"):
        Settings(components=0)
    for repeats in (0, 4, 1.5):
        with pytest.raises(ValueError, match="repeats: expected a whole number from 1 to 3"):
            Settings(repeats=repeats)


def test_chosen_areas_are_at_their_level_and_all_else_at_its_mean():
    np.testing.assert_array_equal(optimal_response(ROIS, {"FFA": 1.5}), [0, 1.5, 1.5, 0])
    np.testing.assert_array_equal(optimal_response(ROIS, {"FFA": 1, "V1": -2}), [-2, -0.5, 1, 0])
    for levels, problem in (({}, "got none"), ({"V9": 1}, "got 'V9'"), ({"V1": np.inf}, "from -5.0 to 5.0, got inf")):
        with pytest.raises(ValueError, match=problem):
            optimal_response(ROIS, levels)


def test_the_first_repeats_are_averaged(bundle):
    test = bundle.subject.test
    for index, repeats, used in ((1, 1, 1), (1, 2, 2), (1, None, 3), (0, 3, 2)):  # image 0 has two
        np.testing.assert_allclose(test.response(index, repeats), test.voxels[index, :used].mean(0), rtol=1e-5)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        test.response(1, 0)


def test_the_chosen_response_has_the_repeats_and_the_gains(bundle):
    settings = Settings(repeats=2, gains=(("V1", 0.5),))
    expected = bundle.subject.test.voxels[1, :2].mean(0) * np.where(np.arange(7) < 3, 0.5, 1)
    np.testing.assert_allclose(chosen_response(bundle.subject, 1, settings), expected, rtol=1e-5)


def test_components_are_cut_off_in_both_regressors_and_more_than_there_are_is_all(bundle):
    X, ridge = bundle.subject.test.response(1)[None], bundle.regressors["latents"]["ridge"]
    cut = ridge.rescale((ridge.standardise(X) @ ridge.down[:, :2]) @ ridge.up[:2] + ridge.intercept)
    np.testing.assert_allclose(decoded("latents", X, bundle, "ridge", 2), cut, rtol=1e-5, atol=1e-6)
    assert most_components(bundle) == 3
    for name in ("ridge", "mlp"):
        whole = decoded("latents", X, bundle, name)
        assert np.array_equal(decoded("latents", X, bundle, name, 99), whole)
        assert not np.allclose(decoded("latents", X, bundle, name, 1), whole)


def test_fewer_components_give_another_layout_and_no_picture_no_ceiling(bundle):
    voxels = 10 * bundle.subject.test.response(1)
    *_, whole = reconstruct_layout(voxels, None, bundle, "mlp")
    *_, cut = reconstruct_layout(voxels, None, bundle, "mlp", 1)
    assert set(whole.images) == {"ridge", "mlp"} and whole.last
    assert (whole.images["ridge"] != cut.images["ridge"]).any()


def test_the_key_of_stage_1_knows_the_response_and_components_but_not_stage_2():
    key = stage_1_key(3, Settings())
    same = Settings("ridge", "own", "a boat", LCMSettings(2, 1.5, 0.5, 9), gains=(("V1", 1.0),))
    assert stage_1_key(3, same) == key and hash(key) == hash(stage_1_key(3, same))
    others = (Settings(components=2), Settings(repeats=1), Settings(gains=(("V1", 0.5),)))
    assert len({key, stage_1_key(4, Settings()), *(stage_1_key(3, s) for s in others)}) == 5
    a, b = (("V1", 0.5), ("FFA", 2.0)), (("FFA", 2.0), ("V1", 0.5))
    assert stage_1_key(3, Settings(gains=a)) == stage_1_key(3, Settings(gains=b))
