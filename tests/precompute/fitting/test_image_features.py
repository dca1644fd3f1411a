"""What the encoding model sees of an image besides its latents."""

import numpy as np
import torch
from skimage.color import rgb2lab

from precompute.fitting.image_features import N_PATCHES, PATCH, STRIDE, PatchDictionary, image_statistics

CELLS = 8 * 8 * 3  # of the mean colours, and of their spreads


def test_colours_are_means_and_spreads_of_lab_in_each_cell(rng):
    images = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    found = image_statistics(images)
    for image, row in zip(images, found):
        lab = rgb2lab(image)
        for y, x in ((0, 0), (3, 5), (7, 7)):
            cell = lab[8 * y : 8 * y + 8, 8 * x : 8 * x + 8].reshape(-1, 3)
            at = (8 * y + x) * 3
            np.testing.assert_allclose(row[at : at + 3], cell.mean(0) / 20, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(row[CELLS + at : CELLS + at + 3], cell.std(0) / 10, rtol=1e-4, atol=1e-4)


def test_gradients_are_where_edges_are_and_turn_with_them():
    plain, upright, lying = np.full((3, 64, 64, 3), 90, np.uint8)
    upright[:, 32:], lying[32:] = 200, 200
    none, one, other = image_statistics(np.stack([plain, upright, lying]))[:, 2 * CELLS :]
    assert not none.any() and one.any() and not np.allclose(one, other)
    assert np.isclose(one.sum(), other.sum(), rtol=0.1)


def test_patches_are_described_by_how_near_they_come_to_each_centroid(rng):
    images = rng.integers(0, 256, (6, 64, 64, 3), np.uint8)
    dictionary = PatchDictionary.fit(images[:4])
    found = dictionary.describe(images[4:], chunk=1)
    assert found.shape == (2, 5 * N_PATCHES)
    side = (64 - PATCH) // STRIDE + 1
    pixels = torch.tensor(images[5]).permute(2, 0, 1).float() / 255
    active = np.empty((side, side, N_PATCHES))
    for y in range(side):
        for x in range(side):
            patch = pixels[:, STRIDE * y : STRIDE * y + PATCH, STRIDE * x : STRIDE * x + PATCH].flatten()
            patch = (patch - patch.mean()) / (patch.var() + 0.01).sqrt()
            distance = ((patch - dictionary.mean) @ dictionary.whiten - dictionary.centroids).norm(dim=1)
            active[y, x] = (distance.mean() - distance).clamp(min=0)
    np.testing.assert_allclose(found[1, 4 * N_PATCHES :], active.max((0, 1)), atol=2e-2)
    half = side // 2 + side % 2  # quadrants of an odd side share their middle
    expected = active[:half, :half].mean((0, 1))
    np.testing.assert_allclose(found[1, : 4 * N_PATCHES].reshape(N_PATCHES, 4)[:, 0], expected, atol=2e-2)


def test_whitened_patches_have_little_left_in_common(rng):
    images = rng.integers(0, 256, (8, 8, 64, 3), np.uint8).repeat(8, axis=1)
    dictionary = PatchDictionary.fit(images)
    assert dictionary.whiten.shape == (3 * PATCH**2,) * 2 and dictionary.centroids.shape == (N_PATCHES, 3 * PATCH**2)
    torch.testing.assert_close(dictionary.whiten, dictionary.whiten.T, atol=1e-3, rtol=1e-3)
