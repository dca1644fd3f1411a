"""What the page says of, and lets a visitor choose of, what guides stage 2."""

import pytest

from recon.settings import Settings
from recon.ui.controls import control_values, read_settings, reading_of
from recon.ui.html.under_images import guided_by

CHOSEN = ("balance", "image_scale", "guide")


@pytest.mark.parametrize("settings", [Settings(), Settings(balance=0.6, image_scale=1.2, guide="nearest")])
def test_controls_hold_the_settings_and_give_them_back(settings):
    back = read_settings(control_values(settings), reading_of(settings))
    assert [getattr(back, name) for name in CHOSEN] == [getattr(settings, name) for name in CHOSEN]


def test_nothing_is_said_of_an_image_where_text_alone_was_asked_for():
    assert guided_by(Settings(), "") == guided_by(Settings(balance=1, image_scale=0), "no adapter") == ""


def test_which_embedding_guides_and_how_strongly_is_said_and_an_oracle_is_marked():
    said = guided_by(Settings(balance=0.75, image_scale=0.9, guide="oracle"), "")
    assert "the embedding of the image that was shown, scale 0.9; text 50 %" in said and "knows the answer" in said
    decoded = guided_by(Settings(balance=0.25, image_scale=0.8), "")
    assert "decoded from the brain, scale 0.4; text 100 %" in decoded and "knows the answer" not in decoded


def test_why_no_image_guides_is_said_where_one_was_to_and_is_text():
    said = guided_by(Settings(balance=0.5, guide="oracle"), "<b>fetch</b> it")
    assert "none: text alone guides. &lt;b&gt;fetch&lt;/b&gt; it" in said and "knows the answer" not in said
