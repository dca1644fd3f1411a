"""Scores of single pictures: read where there are any, told with their percentile, offered as orders."""

import h5py
import numpy as np

from recon.ui.html.image_scores import orders, read_image_scores, standing


def write_scores(folder, rows, **scores):
    with h5py.File(folder / "image_scores.h5", "w") as f:
        f["images"] = rows
        for key, values in scores.items():
            f[key.replace("__", "/")] = np.array(values, np.float32)


def test_a_bundle_without_an_evaluation_has_no_scores_no_orders_and_says_nothing(tmp_path):
    scores = read_image_scores(tmp_path, 4)
    assert (scores, orders(scores), standing(scores, 0, "mlp")) == ({}, {}, "")


def test_pictures_that_were_not_scored_have_no_number_and_no_standing(tmp_path):
    write_scores(tmp_path, [2, 0], vdvae__mlp__pixcorr=[0.5, 0.25])
    scores = read_image_scores(tmp_path, 3)
    assert orders(scores) == {"stage 1, pixel correlation": [0.25, None, 0.5]}
    assert standing(scores, 1, "mlp") == ""
    assert standing(scores, 0, "ridge") == ""


def test_the_percentile_is_the_share_of_pictures_that_score_lower(tmp_path):
    values = np.random.default_rng(0).permutation(100) / 100 - 0.2
    write_scores(tmp_path, np.arange(100), lcm__mlp__pixcorr=values)
    scores = read_image_scores(tmp_path, 100)
    k = int(np.argmin(np.abs(values - 0.1)))
    share = 100 * (values < values[k]).mean() + 0.5
    assert f"pixel r <b>0.10</b>, percentile <b>{share:.0f}</b>" in standing(scores, k, "mlp")
    assert "<b>−0.20</b>" in standing(scores, int(values.argmin()), "mlp")
