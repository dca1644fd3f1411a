"""An evaluation of a bundle by Brain-Diffuser's recipe marks what its transductive gains made: rows, the page, the card."""

from dataclasses import replace

import pytest
from stand_in_evaluation import made_up_inputs

from precompute.evaluation.evaluate import Options
from precompute.evaluation.model_card import section
from precompute.evaluation.summary import evaluate
from recon.recipes import BRAIN_DIFFUSER, TRANSDUCTIVE
from recon.settings import LCMSettings
from recon.ui.html.score_table import row_notes, score_table
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
