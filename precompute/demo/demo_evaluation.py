"""The simulated subject's evaluation: its own CLIP identifies pictures, its checker says what they show.

A bundle and the scenes, rendered anew by their seed, are all that it needs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import CLIPVisionModelWithProjection

from precompute.demo.checker import Checker
from precompute.demo.world import make_scenes
from precompute.evaluation.candidates import Candidates
from precompute.evaluation.evaluate import Inputs, Options, digest_parts, held_out_r2, shares_of_network
from precompute.evaluation.network_metrics import open_networks
from precompute.evaluation.refits import Learned, refit, spread_of_fits
from precompute.evaluation.sheets import draw_sheets
from precompute.evaluation.summary import evaluate
from precompute.fitting.clip import image_embeddings
from precompute.team import Team
from recon.bundle.bundle import load_bundle
from recon.bundle.evaluation import Evaluation
from recon.bundle.manifest import TARGETS
from recon.files import load_json, open_array
from recon.images import area_average


def own_clip(folder: Path):
    """Pictures (n, S, S, 3) uint8 -> embeddings, by the CLIP in `folder`."""
    vision = CLIPVisionModelWithProjection.from_pretrained(folder).float().eval()
    return lambda images: image_embeddings(vision, images)


def render_scenes(scenes: Path, settings: dict) -> None:
    """Draws those of a demo with these settings, a split whole, unless they are there."""
    for split in ("train", "test"):
        if not (scenes / f"{split}.json").exists():
            make_scenes(scenes, split, settings[f"n_{split}"], settings["seed"])


def gather(scenes: Path, folder: Path, out: Path) -> Inputs:
    """From scenes, the demo's bundle in `folder`, and fits with other seeds, if there are some in `out`. Raises BadFile."""
    bundle, see = load_bundle(folder), own_clip(folder / "vision")
    networks, absent = open_networks()
    reports = load_json(folder / "provenance.json")["reports"]
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
        held_out_r2=held_out_r2(reports["latents_fit"]),
        shares=shares_of_network({target: reports[f"{target}_fit"] for target in TARGETS}),
        describe={"clip_demo": see} | networks,
        not_computed=absent,
        find=Checker.load(folder / "checker.safetensors").right,
        refits=spread_of_fits(out),
    )


def refit_demo(work: Path, folder: Path, n: int) -> dict:
    """Fits the regressors of the latents n times with other seeds, and scores stage 1; returns the spread. Raises BadFile.

    `work` holds scenes, responses and latents, and keeps the fits; `folder` is the bundle.
    """
    report = load_json(folder / "provenance.json")["reports"]["latents_fit"]
    learned = Learned(work / "brain" / "train_voxels.npy", work / "latents_train.npy", report)
    return refit(learned, gather(work / "scenes", folder, work), work, n)


def evaluate_demo(scenes: Path, folder: Path, out: Path, options: Options, me: Team) -> Evaluation:
    """Writes the evaluation's files and the contact sheets into `out`; processes of a team share the work."""
    inputs = gather(scenes, folder, out)
    trials, rows = inputs.bundle.subject.test, np.arange(len(inputs.images))
    captions = [e["captions"] for e in trials.labels]
    test = Candidates(inputs.bundle, rows, trials.averaged(), captions, inputs.latents)
    if me.first:
        draw_sheets(test, inputs.images, out, seed=0)
    return evaluate(inputs, out, options, me)
