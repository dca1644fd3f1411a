"""Links and records bring back what was shown."""

import io
import itertools
import json
from functools import partial

import numpy as np
import pytest
from PIL import Image
from without import without

from recon.bundle.bundle import load_bundle
from recon.compare import Compared, grid, labelled_sheet
from recon.images import area_average
from recon.reconstruct import Shown, reconstruct
from recon.responses import response_to
from recon.settings import AXES, LCMSettings, Settings, with_choice
from recon.share import from_query, png_with_record, record, to_query


def test_every_setting_comes_back_from_a_link():
    choices = itertools.product(
        ("ridge", "mlp"),
        ("decoded", "own"),
        (1, 8),
        (0.35, 1),
        (None, 2),
        (None, 7),
        ((), (("V1v", 0.5), ("FFA", 0.0))),
        ("own", "shuffled"),
    )
    for regressor, prompt, steps, strength, repeats, components, gains, response in choices:
        lcm = LCMSettings(steps, 1.3, strength, 123456)
        words = "a cat & a dog = ?" if prompt == "own" else ""
        settings = Settings(regressor, prompt, words, lcm, repeats, components, gains, response=response)
        assert from_query("?" + to_query("subj01", 17, settings), 20) == ("subj01", 17, settings)


def test_what_guides_stage_2_comes_back_from_a_link():
    settings = Settings(balance=0.6, image_scale=1.1, guide="nearest")
    query = to_query("subj01", 2, settings)
    assert from_query(query, 3) == ("subj01", 2, settings)
    assert query.endswith("guide=nearest&balance=0.6&image_scale=1.1")
    with pytest.raises(ValueError, match="image scale: expected a number from 0 to 1.5, got 9.0"):
        from_query("image_scale=9", 3)


def test_an_empty_query_means_the_first_picture_and_the_defaults():
    assert from_query("", 3) == (None, 0, Settings())


@pytest.mark.parametrize(
    "query, message",
    [
        ("picture=3", "names picture 3: this subject has pictures 0 to 2"),
        ("picture=x", "a number in it is not one"),
        ("steps=99", "LCM steps: expected a whole number from 1 to 8, got 99"),
        ("regressor=forest", "regressor: expected one of ridge, mlp"),
        ("response=mine", "response: expected one of own, other, shuffled, none, got 'mine'"),
        ("gains=V1*9", "gain of V1: expected a number from 0 to 2.0, got 9.0"),
        ("gains=V1*nan", "gain of V1"),
        ("&".join(f"a{k}=1" for k in range(50)), "cannot be read"),
    ],
)
def test_a_bad_link_is_told_in_one_sentence(query, message):
    with pytest.raises(ValueError, match=message):
        from_query(query, 3)


def test_a_prompt_that_is_typed_but_not_in_use_is_not_in_the_link():
    assert to_query("demo", 0, Settings(own_prompt="a red boat")) == to_query("demo", 0, Settings())


def test_a_png_carries_its_record(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    content = record(bundle.manifest, 2, Settings(), {"vdvae": 0.12345})
    data = png_with_record(np.full((4, 5, 3), 7, np.uint8), content)
    image = Image.open(io.BytesIO(data))
    assert json.loads(image.text["recon"]) == json.loads(json.dumps(content)) and image.size == (5, 4)
    assert content["settings"]["lcm"]["steps"] == 4 and content["versions"]["torch"]


def test_every_cell_of_a_comparison_is_what_its_settings_give_alone(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    base, rows, columns = Settings(regressor="ridge"), ("steps", (1, 2)), ("components", (1, 2, 3))
    image = compared(bundle, 1)
    cells = list(grid(image, base, rows, columns))
    assert [(c.row, c.column) for c in cells] == [(r, c) for r in range(2) for c in range(3)]
    response = bundle.subject.test.response(1)
    for cell in cells:
        expected = with_choice(with_choice(base, "steps", rows[1][cell.row]), "components", columns[1][cell.column])
        assert cell.settings == expected
        *_, frame = reconstruct(response, bundle, expected)
        assert np.array_equal(cell.image, frame.images["lcm"])
        original = area_average(bundle.subject.test.images[1:2], len(cell.image))
        assert cell.pixcorr == pytest.approx(np.corrcoef(cell.image.ravel(), original.ravel())[0, 1], abs=1e-6)
    sheet = labelled_sheet(bundle.subject.test.images[1], cells[:4], rows, columns)
    assert sheet.getpixel((sheet.width - 20, sheet.height - 20)) == (255, 255, 255)  # a cell that has not come
    with pytest.raises(ValueError, match="two different axes"):
        next(grid(image, base, rows, rows))


def compared(bundle, index: int) -> Compared:
    shown = Shown(bundle.subject.test.images[index], bundle.subject.test.labels[index]["captions"])

    def run(response, settings, shown, layout):
        return reconstruct(response, bundle, settings, shown=shown, layout=layout)

    return Compared(shown, partial(response_to, bundle.subject, index), run)


def test_cells_read_the_response_as_their_settings_want_it(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    base = Settings(regressor="ridge", gains=(("V1", 0.0),), lcm=LCMSettings(1))
    cells = list(grid(compared(bundle, 1), base, ("repeats", (1, 3)), ("steps", (1, 2))))
    for cell in cells:
        *_, frame = reconstruct(response_to(bundle.subject, 1, cell.settings), bundle, cell.settings)
        assert np.array_equal(cell.image, frame.images["lcm"])
    assert (cells[0].image != cells[2].image).any()


def test_a_comparison_decodes_every_layout_once_and_waits_for_no_other(tiny_bundle, monkeypatch):
    bundle, asked = load_bundle(tiny_bundle), []
    monkeypatch.setattr(type(bundle.vdvae), "slow", True)
    monkeypatch.setattr(type(bundle.vdvae), "encode", None)  # of the ceiling
    decode = type(bundle.vdvae).decode
    monkeypatch.setattr(type(bundle.vdvae), "decode", lambda *inputs: asked.append(1) or decode(*inputs))
    list(grid(compared(bundle, 1), Settings(lcm=LCMSettings(1)), ("seed", (0, 1, 2)), ("components", (1, 2))))
    assert len(asked) == 2


def test_a_comparison_without_a_diffusion_model_shows_layouts_and_without_any_decoder_says_why(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    axes = ("regressor", ("ridge", "mlp")), ("components", (1, 2))
    cells = list(grid(compared(without(bundle, "diffusion"), 1), Settings(), *axes))
    for cell in cells:
        *_, frame = reconstruct(bundle.subject.test.response(1), without(bundle, "diffusion"), cell.settings)
        assert np.array_equal(cell.image, frame.images[cell.settings.regressor]) and set(cell.absent) == {"diffusion"}
    with pytest.raises(ValueError, match="'vdvae' is not there: fetch it"):
        next(grid(compared(without(bundle, "vdvae", "diffusion"), 1), Settings(), *axes))


def test_every_axis_offers_values_that_settings_take():
    for axis, values in AXES.items():
        for value in values:
            with_choice(Settings(), axis, value)
    with pytest.raises(ValueError, match="axis: expected one of"):
        with_choice(Settings(), "colour", 1)
