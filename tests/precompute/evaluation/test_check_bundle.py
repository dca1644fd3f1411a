"""What `check bundle` says of tiny bundles that each have one thing wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stand_in_evaluation import made_up_evaluation
from typer.testing import CliRunner

from precompute.__main__ import app
from precompute.evaluation.check_bundle import check_bundle
from recon.bundle.bundle import load_bundle
from recon.bundle.evaluation import save_evaluation
from recon.bundle.manifest import rewrite_manifest
from recon.bundle.subject import save_subject
from recon.regressors.standardise import Rescaler


@pytest.fixture
def folder(tiny_bundle):
    """A bundle with which nothing is wrong."""
    put_evaluation(tiny_bundle)
    mlps = load_bundle(tiny_bundle).regressors
    for target, models in mlps.items():
        torch.nn.init.normal_(models["mlp"].network.outward.weight)
        models["mlp"].save(tiny_bundle / f"{target}_mlp.safetensors")
    rewrite_manifest(tiny_bundle)
    return tiny_bundle


def put_evaluation(folder, **changes):
    images = load_bundle(folder).subject.test.images
    made = made_up_evaluation(images, changes.pop("simulated", True), changes.pop("protocol", "own"))
    machine = {"device": "cpu", "dtype": "float32", "side": 192, "autoencoder": "AutoencoderTiny"}
    save_evaluation(folder, replace(made, **{"machine": machine} | changes))
    rewrite_manifest(folder)


def test_of_a_bundle_that_stands_nothing_is_said(folder):
    assert check_bundle(folder) == []


def test_a_network_that_weighs_nothing_is_told(folder):
    mlp = load_bundle(folder).regressors["prompt"]["mlp"]
    torch.nn.init.zeros_(mlp.network.outward.weight)
    mlp.save(folder / "prompt_mlp.safetensors")
    rewrite_manifest(folder)
    assert check_bundle(folder) == [
        "shares: the MLP of prompt is ridge under another name, its network weighs nothing: fit it again"
    ]


def test_averages_of_unknown_repeats_are_told_and_known_ones_not(folder):
    subject = load_bundle(folder).subject
    averages = replace(subject.test, voxels=subject.test.averaged()[:, None])
    for n_trials, said in ((None, 1), (np.array([2, 3, 3, 3, 3]), 0)):
        save_subject(folder / "subject.h5", replace(subject, test=replace(averages, n_trials=n_trials)))
        rewrite_manifest(folder)
        assert [line.split(":")[0] for line in check_bundle(folder)] == ["repeats"] * said


def test_capped_gains_and_constant_targets_are_counted(folder):
    ridge = load_bundle(folder).regressors["latents"]["ridge"]
    gain, up = ridge.rescale.gain.copy(), ridge.up.copy()
    gain[:29], up[:, :7] = Rescaler.MAX_GAIN, 0  # of 290
    replace(ridge, up=up, rescale=Rescaler(gain, ridge.rescale.offset)).save(folder / "latents_ridge.safetensors")
    rewrite_manifest(folder)
    gains, constant = check_bundle(folder)
    assert gains.startswith("gains: 10.0 % of the latents of ridge") and constant.startswith(
        "constant targets: 7 of 290"
    )


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"tables": {}}, "shares: the evaluation does not tell"),
        ({"machine": {}}, "device: the evaluation does not tell"),
        ({"simulated": False}, "protocol: “own”, n = 5: no published number"),
        (
            {"simulated": False, "protocol": "mindeye"},
            "protocol: “mindeye” with n = 5 is not that of the paper, whose n is 1000",
        ),
    ],
)
def test_what_an_evaluation_lacks_is_told(folder, changes, words):
    put_evaluation(folder, **changes)
    (line,) = check_bundle(folder)
    assert line.startswith(words)


def test_the_command_prints_one_line_each(folder):
    put_evaluation(folder, machine={}, tables={})
    result = CliRunner().invoke(app, ["check", "bundle", str(folder)])
    assert result.exit_code == 0 and [line.split(":")[0] for line in result.stdout.splitlines()] == ["shares", "device"]
    put_evaluation(folder)
    assert CliRunner().invoke(app, ["check", "bundle", str(folder)]).stdout == "Nothing was found to be wrong.\n"
    assert CliRunner().invoke(app, ["check", "bundle", str(folder / "none")]).exit_code == 1
