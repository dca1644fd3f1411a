"""The simulated subject's evaluation: its own CLIP identifies pictures, its checker says what they show.

A bundle and the scenes, drawn anew by their seed, are all that it needs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import CLIPVisionModelWithProjection

from precompute.demo.checker import Checker
from precompute.evaluation.candidates import Candidates
from precompute.evaluation.evaluate import Inputs, Options, digest_parts, held_out_r2, shares_of_network
from precompute.evaluation.network_metrics import open_networks
from precompute.evaluation.refits import Learned, refit, spread_of_fits
from precompute.evaluation.sheets import draw_sheets
from precompute.evaluation.summary import attach, detach, evaluate, overview
from precompute.fitting.clip import image_embeddings
from precompute.team import team
from recon.bundle.bundle import load_bundle
from recon.bundle.manifest import TARGETS
from recon.files import load_json, open_array
from recon.images import area_average

SHEETS = ("contact_sheet.png", "stage2_sheet.jpg")  # `draw_sheets` writes them


def own_clip(folder: Path):
    """Pictures (n, S, S, 3) uint8 -> embeddings, by the CLIP in `folder`."""
    vision = CLIPVisionModelWithProjection.from_pretrained(folder).float().eval()
    return lambda images: image_embeddings(vision, images)


def fits_of(folder: Path) -> dict:
    """What the bundle's fits reported: "r2" of held-out training images by regressor, "shares" of the network by target."""
    reports = load_json(folder / "provenance.json")["reports"]
    shares = shares_of_network({target: reports[f"{target}_fit"] for target in TARGETS})
    return {"r2": held_out_r2(reports["latents_fit"]), "shares": shares}


def gather(work: Path, folder: Path, fits: dict) -> Inputs:
    """From the scenes in `work`, the demo's bundle in `folder`, and fits with other seeds, if there are some in `work`.

    `fits`: as `fits_of`. Raises BadFile.
    """
    scenes = work / "scenes"
    bundle, see = load_bundle(folder), own_clip(folder / "vision")
    networks, absent = open_networks()
    images = np.asarray(open_array(scenes / "test.npy"))
    small = area_average(images, bundle.vdvae.cfg.image_size)
    return Inputs(
        bundle=bundle,
        parts=digest_parts(folder, "own"),
        images=images,
        latents=bundle.vdvae.encode(small, bundle.n_layers),
        embeddings=see(images),
        training_images=open_array(scenes / "train.npy"),
        training_labels=load_json(scenes / "train.json"),
        held_out_r2=fits["r2"],
        shares=fits["shares"],
        describe={"clip_demo": see} | networks,
        not_computed=absent,
        find=Checker.load(folder / "checker.safetensors").right,
        refits=spread_of_fits(work),
    )


def refit_demo(work: Path, folder: Path, n: int) -> dict:
    """Fits the regressors of the latents n times with other seeds, and scores stage 1; returns the spread. Raises BadFile.

    `work` holds scenes, responses and latents, and keeps the fits; `folder` is the bundle.
    """
    report = load_json(folder / "provenance.json")["reports"]["latents_fit"]
    learned = Learned(work / "brain" / "train_voxels.npy", work / "latents_train.npy", report)
    return refit(learned, gather(work, folder, fits_of(folder)), work, n)


def write_evaluation(work: Path, folder: Path, options: Options, fits: dict) -> dict:
    """Scores the bundle in `folder` on the test scenes and writes evaluation and contact sheets there; returns the means.

    `work` holds the scenes, and keeps what has been computed. Processes of a team share that.
    """
    me = team()
    if me.first:
        detach(folder)
    me.wait()
    inputs = gather(work, folder, fits)
    trials, rows = inputs.bundle.subject.test, np.arange(len(inputs.images))
    captions = [e["captions"] for e in trials.labels]
    test = Candidates(inputs.bundle, rows, trials.averaged(), captions, inputs.latents)
    evaluation = evaluate(inputs, work, options, me)
    if me.first:
        draw_sheets(test, inputs.images, folder, seed=0)
        attach(work, folder)
    return overview(evaluation)
