"""An evaluation of a bundle by Brain-Diffuser's recipe marks what its transductive gains made: rows, the page, the card."""

from dataclasses import replace

import numpy as np
import pytest
from stand_in_evaluation import made_up_inputs

from precompute.evaluation.evaluate import Options
from precompute.evaluation.model_card import section
from precompute.evaluation.summary import evaluate
from recon.bundle.manifest import read_manifest
from recon.recipes import BRAIN_DIFFUSER, TRANSDUCTIVE
from recon.settings import LCMSettings, Settings
from recon.share import record
from recon.ui.html.markup import NOTHING
from recon.ui.html.panel import View, drawn_from, header, stage_1_cards
from recon.ui.html.score_table import row_notes, score_table
from recon.ui.html.under_images import Told
from recon.ui.tabs.evaluate_tab import introduction

OWED = {"ridge", "ridge_image", "ridge_both", "shuffled", "other_image", "mean", "empty_prompt", "oracle"}


@pytest.mark.parametrize("recipe, owed", [(BRAIN_DIFFUSER, OWED), ("own", set())])
def test_rows_of_layouts_with_transductive_gains_say_so_and_no_others(guided_bundle, rng, tmp_path, recipe, owed):
    inputs = made_up_inputs(guided_bundle, rng)
    bundle = replace(inputs.bundle, manifest=inputs.bundle.manifest | {"recipe": recipe})
    found = evaluate(replace(inputs, bundle=bundle), tmp_path, Options(seeds=1, lcm=LCMSettings(1)))
    assert {row.source for row in found.rows if TRANSDUCTIVE in row.note} == owed
    assert found.settings["recipe"] == recipe
    n_marked = len({(row.stage, row.source) for row in found.rows if row.source in owed})
    assert score_table(found).count("<small>transductive</small>") == n_marked
    for shown in (introduction(found), row_notes(found), section(found)):
        assert ("ransductive: rescaled by" in shown) == bool(owed)


def test_the_page_and_the_records_of_what_it_drew_say_so_of_that_regressor_alone(guided_bundle):
    manifest = read_manifest(guided_bundle) | {"recipe": BRAIN_DIFFUSER}
    assert record(manifest, 0, Settings("ridge"), {})["transductive"] == TRANSDUCTIVE
    assert "transductive" not in record(manifest, 0, Settings("mlp"), {}) | record(
        read_manifest(guided_bundle), 0, Settings("ridge"), {}
    )
    assert "transductive" in drawn_from(Settings("ridge"), ("ridge",)) and "transductive" not in drawn_from(
        Settings("mlp"), ("ridge",)
    )
    assert f"layouts of Ridge are {TRANSDUCTIVE}" in header(manifest, {})
    image = np.zeros((64, 64, 3), np.uint8)
    view = View(0, 0, "", Settings("ridge"), Told("a", 0.5, 1, 5), NOTHING, image, np.zeros(7, np.float32), ("ridge",))
    cards = stage_1_cards(view, None)
    assert (
        "from the brain, linear, transductive" in cards["ridge"]
        and "transductive" not in cards["mlp"] + cards["ceiling"]
    )
