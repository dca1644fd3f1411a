"""What the tabs beside Explore show of a response."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import write_tiny_bundle

from recon.settings import LCMSettings, Settings
from recon.ui.decode import Decoding, means_over_seeds
from recon.ui.server.frames import live
from recon.ui.server.studio import open_studio
from recon.ui.tabs.brain_to_image_tab import driven_cards, silence


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    studio, open_models = open_studio(write_tiny_bundle(tmp_path_factory.mktemp("decode") / "bundle"))
    open_models()
    return studio


def final(studio, response, settings):
    *_, last = live(studio)(response, settings)
    return last.images["lcm"]


@pytest.mark.parametrize("seed", [0, 2**32 - 2])
def test_the_mean_is_that_of_as_many_seeds_which_follow_the_one_chosen(studio, seed):
    settings, response = Settings(lcm=LCMSettings(steps=1, seed=seed)), np.ones(7, np.float32)
    newest = {frame.stage: frame for frame in live(studio)(response, settings)}
    means = dict(means_over_seeds(studio, newest["vdvae"], newest["lcm"], Decoding(settings, {}, "", {}, n_seeds=3)))
    seeds = [(seed + k) % 2**32 for k in range(3)]
    images = [final(studio, response, replace(settings, lcm=LCMSettings(steps=1, seed=s))) for s in seeds]
    assert list(means) == [2, 3] and np.abs(means[3] - np.mean(images, 0)).max() <= 0.5


def test_silence_is_what_a_response_of_zeros_gives_and_is_all_there_is_before_an_area_is_driven(studio):
    settings = Settings(lcm=LCMSettings(steps=1))
    assert np.array_equal(silence(studio, settings), final(studio, np.zeros(7, np.float32), settings))
    (cards,) = driven_cards(studio, {}, settings, 1)
    assert cards.count("<figure") == 1 and "Silence" in cards
    *_, cards = driven_cards(studio, {"unlabelled": 2.0}, settings, 2)
    assert cards.count("<figure") == 5 and "Silence" in cards and "Mean of 2 seeds" in cards and "cosine" in cards


def test_an_area_that_there_is_not_is_refused(studio):
    with pytest.raises(ValueError, match="ROI: expected one of V1, unlabelled"):
        list(driven_cards(studio, {"FFA": 1.0}, Settings(), 1))
