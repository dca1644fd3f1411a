"""Claims about what is told of a voxel or an area."""

import re

import numpy as np
import pytest
from nilearn.datasets import load_fsaverage
from scipy.spatial.distance import cosine
from scipy.stats import pearsonr

from recon.bundle.bundle import load_bundle
from recon.ui.html.inspector import HEIGHT, WIDTH, alike, interval_of, number, roi_panel, ticks, voxel_panel

FACT = re.compile(r"<dt>(?:<small>median</small> )?(.+?)</dt><dd>(.+?)</dd>")
CIRCLE = re.compile(r'<circle cx="([\d.]+)" cy="([\d.]+)"')


@pytest.fixture
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


def test_a_voxels_scores_are_its_own(demo_bundle):
    voxel = 1234
    facts = dict(FACT.findall(voxel_panel(demo_bundle, voxel)))
    scores = demo_bundle.scores
    assert facts["R²"] == f"{100 * scores.r2[voxel]:.1f} %".replace("-", "−")
    assert facts["Noise ceiling"] == f"{scores.noise_ceiling[voxel]:.1f} %"
    assert facts["ncsnr"] == f"{demo_bundle.subject.ncsnr[voxel]:.2f}"


def test_the_pictures_a_voxel_likes_best_come_in_order(demo_bundle):
    page = voxel_panel(demo_bundle, 50)
    shown = [int(k) for k in re.findall(r'data-index="(\d+)"', page)]
    order = np.argsort(demo_bundle.subject.test.averaged()[:, 50])
    assert shown == [*order[::-1][:5], *order[:5]]


def test_images_decoded_alike_are_those_whose_embeddings_correlate_about_their_mean(rng):
    embeddings = rng.normal(size=(40, 12)) + 5  # what all share tells nothing
    embeddings[7] = 2 * (embeddings[30] - embeddings.mean(0)) + embeddings.mean(0) + 0.01 * rng.normal(size=12)
    cosines = alike(embeddings, 30)
    about = embeddings - embeddings.mean(0)
    for k in (3, 7, 39):
        assert cosines[k] == pytest.approx(1 - cosine(about[k], about[30]))
    assert np.isnan(cosines[30]) and np.nanargmax(cosines) == 7


def test_the_panel_shows_the_images_decoded_most_like_the_one_on_screen(demo_bundle):
    embeddings = np.eye(300)[:, :5] + 1
    embeddings[8] = embeddings[3]
    page = voxel_panel(demo_bundle, 50, None, 3, embeddings)
    assert "Decoded most like picture 3" in page and "Decoded most" not in voxel_panel(demo_bundle, 50, None, 3)
    nearest = re.findall(r'data-index="(\d+)"', page.split("Decoded most like")[1])
    assert nearest[0] == "8" and len(nearest) == 5 and "3" not in nearest


def test_a_perfect_prediction_lies_on_the_line_of_equality(demo_bundle):
    measured = demo_bundle.subject.test.averaged()[:, 7]
    dots = np.array(CIRCLE.findall(voxel_panel(demo_bundle, 7, measured)), float)
    assert len(dots) == len(measured)
    start, end = re.search(r'class="equal" d="M(\S+ \S+)L(\S+ \S+)"', voxel_panel(demo_bundle, 7, measured)).groups()
    (x0, y0), (x1, y1) = (map(float, p.split()) for p in (start, end))
    np.testing.assert_allclose(dots[:, 1], y0 + (dots[:, 0] - x0) / (x1 - x0) * (y1 - y0), atol=0.11)


def test_without_a_prediction_the_measured_responses_are_shown_alone(bundle):
    page = voxel_panel(bundle, 3)
    dots = np.array(CIRCLE.findall(page), float)
    assert len(dots) == 5 and "predicted" not in page
    assert (np.diff(dots[:, 0]) > 0).all() and (np.diff(dots[:, 1]) <= 0).all()  # SVG's y runs downwards
    assert ((dots >= 0) & (dots <= [WIDTH, HEIGHT])).all()


def test_an_areas_medians_are_over_its_voxels_alone(demo_bundle):
    page = roi_panel(demo_bundle, "FFA")
    here, facts = demo_bundle.subject.geometry.rois["FFA"], dict(FACT.findall(page))
    assert f"{here.sum()} voxels" in page
    assert facts["R²"] == f"{100 * np.median(demo_bundle.scores.r2[here]):.1f} %"
    assert facts["R² / ceiling"] == f"{np.nanmedian(demo_bundle.scores.r2_over_ceiling[here]):.0f} %"


def test_what_does_not_exist_is_refused_in_words(bundle):
    for voxel in (-1, 7, 1.5, None):
        with pytest.raises(ValueError, match="voxel: expected a whole number from 0 to 6, got"):
            voxel_panel(bundle, voxel)
    with pytest.raises(ValueError, match="area: expected one of V1, unlabelled, got 'V9'"):
        roi_panel(bundle, "V9")


def test_names_cannot_bring_markup(bundle):
    bundle.subject.geometry.rois["<script>"] = np.ones(7, bool)
    assert "<script>" not in roi_panel(bundle, "<script>") + voxel_panel(bundle, 0)


@pytest.mark.parametrize("low, high", [(-3.2, 2.7), (0, 1), (-40.0, 75.0), (0.01, 0.02)])
def test_ticks_are_few_and_within_the_range(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 8 and low - 1e-9 <= min(found) and max(found) <= high + 1e-9


def test_the_interval_of_a_correlation_is_fishers(rng):
    x, y = rng.normal(size=(2, 40))
    found = pearsonr(x, y + 0.5 * x)
    low, high = found.confidence_interval(0.95)
    assert interval_of(found.statistic, 40) == f" ({number(low)} to {number(high)})"
    assert interval_of(1.0, 40) == interval_of(0.5, 3) == interval_of(float("nan"), 40) == ""


def test_a_voxels_response_to_an_image_stands_with_its_repeats_and_their_spread(demo_bundle):
    test = demo_bundle.subject.test
    index = int(np.flatnonzero(test.n_apart == 3)[0])
    repeats = test.voxels[index, :, 50]
    facts = dict(FACT.findall(voxel_panel(demo_bundle, 50, index=index)))
    assert facts[f"Response to picture {index}, z"] == number(repeats.mean())
    assert facts[f"its 3 repeats, SD {number(repeats.std(ddof=1))}"] == " · ".join(map(number, repeats))
    with pytest.raises(IndexError):
        voxel_panel(demo_bundle, 50, index=10**6)


def test_of_an_unlabelled_voxel_the_nearest_area_and_its_distance_are_told(demo_bundle):
    geometry = demo_bundle.subject.geometry
    voxel = int(np.flatnonzero(geometry.areas["unlabelled"])[5])
    pial = load_fsaverage("fsaverage5")["pial"].parts
    at = np.array([pial[("left", "right")[h]].coordinates[v] for h, v in zip(geometry.hemisphere, geometry.vertex)])
    distances = {name: np.sqrt(((at[mask] - at[voxel]) ** 2).sum(1)).min() for name, mask in geometry.rois.items()}
    name = min(distances, key=distances.get)
    assert f"unlabelled, {distances[name]:.0f} mm from {name}" in voxel_panel(demo_bundle, voxel)


def test_an_area_has_buttons_of_gains_only_where_they_act(demo_bundle):
    assert "set-gain" in roi_panel(demo_bundle, "FFA") and "set-gain" not in roi_panel(demo_bundle, "FFA", gains=False)
