"""The protocols of two papers, on crops of scikit-image's own photographs, against plain computations by their descriptions."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates
from skimage import data
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from precompute.evaluation.judge import Judge
from precompute.evaluation.protocols import BRAIN_DIFFUSER, MINDEYE, Protocol, network_pixels

CROPS = ((data.astronaut, 0, 0), (data.astronaut, 87, 87), (data.hubble_deep_field, 200, 300), (data.rocket, 0, 100))
SSIM = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


@pytest.fixture(scope="module")
def photographs():
    return np.stack([picture()[y : y + 425, x : x + 425] for picture, y, x in CROPS])


def pillow(image: np.ndarray, *sides: int) -> np.ndarray:
    """Through these sizes, one after another, by Pillow's default, which is bicubic."""
    for side in sides:
        image = np.asarray(Image.fromarray(image).resize((side, side)))
    return image


@pytest.fixture(scope="module")
def results(photographs):
    """Like stage 2's, 512², from another place of the photograph; like stage 1's, 64²."""
    shifted = np.stack([pillow(np.roll(image, 9, 1), 512) for image in photographs])
    return {512: shifted, 64: np.stack([pillow(image, 64) for image in photographs])}


def scipy_bilinear(image: np.ndarray, side: int) -> np.ndarray:
    """(S, S, 3) -> (side, side, 3): between the nearest pixels, whose centres lie at halves; beyond the edge, the edge."""
    at = (np.arange(side) + 0.5) * len(image) / side - 0.5
    grid = np.meshgrid(at, at, indexing="ij")
    channels = [map_coordinates(image[..., c].astype(float), grid, order=1, mode="nearest") for c in range(3)]
    return np.stack(channels, -1)


def first_numbers(seen: list):
    """A stand-in for a network: keeps what it is shown in `seen`."""
    return lambda images: seen.append(images) or images.reshape(len(images), -1)[:, :99]


@pytest.mark.parametrize("side, sizes", [(512, (425,)), (64, (512, 425))])
def test_brain_diffusers_pixel_scores_are_those_of_its_script(photographs, results, side, sizes):
    scores = Judge(photographs, BRAIN_DIFFUSER, {}).score(results[side])
    for k, (truth, made) in enumerate(zip(photographs, results[side])):
        a, b = pillow(made, *sizes) / 255.0, truth / 255.0
        assert scores["pixcorr"][k] == pytest.approx(np.corrcoef(b.reshape(1, -1), a.reshape(1, -1))[0, 1], abs=1e-5)
        per_column = structural_similarity(rgb2gray(a), rgb2gray(b), channel_axis=1, **SSIM)
        assert scores["ssim_legacy"][k] == pytest.approx(per_column, abs=1e-5)
        assert scores["ssim"][k] == pytest.approx(structural_similarity(rgb2gray(a), rgb2gray(b), **SSIM), abs=1e-5)


@pytest.mark.parametrize("side", [512, 64])
def test_mindeyes_pixel_scores_are_those_of_its_notebook(photographs, results, side):
    scores = Judge(photographs, MINDEYE, {}).score(results[side])
    for k, pair in enumerate(zip(results[side], photographs)):
        a, b = (scipy_bilinear(scipy_bilinear(image, 256), 425) / 255.0 for image in pair)
        assert scores["pixcorr"][k] == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-5)
        assert scores["ssim"][k] == pytest.approx(structural_similarity(rgb2gray(a), rgb2gray(b), **SSIM), abs=1e-4)


def test_ways_of_resizing_differ_by_as_much_as_published_methods_do(photographs, results):
    enlarged = np.stack([pillow(image, 512) for image in photographs])
    ours = Judge(enlarged, Protocol("own", 425), {}).score(results[64])
    theirs = Judge(photographs, BRAIN_DIFFUSER, {}).score(results[64])
    assert (ours["ssim_legacy"] - theirs["ssim_legacy"]).max() > 0.01


def test_networks_see_brain_diffusers_layouts_by_way_of_512_pixels(photographs, results):
    seen = []
    judge = Judge(
        photographs,
        BRAIN_DIFFUSER,
        {"effnet": first_numbers(seen)},
    )
    judge.score(results[64])
    truth, layouts = seen
    assert np.array_equal(truth, photographs)
    assert np.array_equal(layouts[0], pillow(results[64][0], 512))
    at_224 = np.asarray(Image.fromarray(layouts[0]).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.array_equal(network_pixels(layouts, BRAIN_DIFFUSER, 224)[0], at_224)


@pytest.mark.parametrize("metric, side", [("alexnet2", 256), ("inception", 342), ("effnet", 255), ("clip", 224)])
def test_mindeyes_networks_see_everything_by_way_of_256_pixels_at_their_own_size(photographs, metric, side):
    seen = []
    Judge(
        photographs[:2],
        MINDEYE,
        {metric: first_numbers(seen)},
    )
    assert MINDEYE.network_side(metric) == side
    expected = scipy_bilinear(scipy_bilinear(photographs[0], 256), side)
    np.testing.assert_allclose(network_pixels(seen[0], MINDEYE, side)[0], expected, atol=5e-3)  # of 255; float32
