"""Scores of single pictures: read where there are any, told with their percentile, offered as orders."""

import h5py
import numpy as np

from recon.files import save_json
from recon.metrics import ssim
from recon.ui.html.image_scores import on_screen, orders, read_image_scores, read_n_seeds, standing


def write_scores(folder, rows, **scores):
    with h5py.File(folder / "image_scores.h5", "w") as f:
        f["images"] = rows
        for key, values in scores.items():
            f[key.replace("__", "/")] = np.array(values, np.float32)


def test_a_bundle_without_an_evaluation_has_no_scores_no_orders_and_says_nothing(tmp_path):
    scores = read_image_scores(tmp_path, 4)
    assert (scores, orders(scores, 0), standing(scores, 0, "mlp", 0)) == ({}, {}, "") and read_n_seeds(tmp_path) == 0


def test_pictures_that_were_not_scored_have_no_number_and_no_standing(tmp_path):
    write_scores(tmp_path, [2, 0], vdvae__mlp__pixcorr=[0.5, 0.25])
    scores = read_image_scores(tmp_path, 3)
    assert orders(scores, 3) == {"stage 1, pixel correlation (default settings)": [0.25, None, 0.5]}
    assert standing(scores, 1, "mlp", 3) == ""
    assert standing(scores, 0, "ridge", 3) == ""


def test_the_percentile_is_the_share_of_pictures_that_score_lower(tmp_path):
    values = np.random.default_rng(0).permutation(100) / 100 - 0.2
    write_scores(tmp_path, np.arange(100), lcm__mlp__pixcorr=values)
    scores = read_image_scores(tmp_path, 100)
    k = int(np.argmin(np.abs(values - 0.1)))
    share = 100 * (values < values[k]).mean() + 0.5
    assert f"pixel r <b>0.10</b>, percentile <b>{share:.0f}</b>" in standing(scores, k, "mlp", 3)
    assert "<b>−0.20</b>" in standing(scores, int(values.argmin()), "mlp", 3)


def test_scores_say_of_which_images_they_are(tmp_path, rng):
    write_scores(tmp_path, [0, 1], lcm__mlp__pixcorr=[0.5, 0.25])
    save_json(tmp_path / "evaluation.json", {"seeds": [0, 1, 2]})
    scores, n = read_image_scores(tmp_path, 2), read_n_seeds(tmp_path)
    assert list(orders(scores, n)) == ["stage 2, pixel correlation (default settings, mean of 3 seeds)"]
    assert "Default settings, mean of 3 seeds" in standing(scores, 0, "mlp", n)
    truth, image = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    large = np.repeat(np.repeat(image, 2, 0), 2, 1)
    r = np.corrcoef(image.ravel(), truth.ravel())[0, 1]
    for shown in (image, large):
        told = on_screen({"lcm": shown}, truth)
        assert f"Stage 2: pixel r <b>{r:.2f}</b>".replace("-", "−") in told and "On screen" in told
        assert f"SSIM <b>{ssim(image[None], truth[None])[0]:.2f}</b>".replace("-", "−") in told
    coarse = np.rint(truth.reshape(32, 2, 32, 2, 3).mean((1, 3))).astype(np.uint8)
    assert "pixel r <b>1.00</b>" in on_screen({"lcm": coarse}, truth)  # at the smaller of both sizes
    assert on_screen({}, truth) == ""
