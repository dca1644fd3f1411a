"""The simulated subject's evaluation: its own CLIP identifies pictures, its checker says what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import CLIPVisionModelWithProjection

from precompute.candidates import Candidates
from precompute.demo.checker import Checker
from precompute.evaluate import Inputs, Options, digest_parts
from precompute.sheets import draw_sheets
from precompute.summary import evaluate
from recon.bundle import Bundle, open_parts
from recon.clip import image_embeddings
from recon.evaluation import Evaluation
from recon.files import load_json, open_array
from recon.network_metrics import open_networks
from recon.settings import REGRESSORS


def own_clip(folder: Path):
    """Pictures (n, S, S, 3) uint8 -> embeddings, by the CLIP in `folder`."""
    vision = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    return lambda images: image_embeddings(vision, images)


def gather(work: Path, bundle: Bundle) -> Inputs:
    """From the demo's folder of intermediate files, which also holds all parts of the bundle."""
    scenes, see = work / "scenes", own_clip(work / "clip")
    networks, absent = open_networks()
    images = np.asarray(open_array(scenes / "test.npy"))
    return Inputs(
        bundle=bundle,
        parts=digest_parts(work, "own"),
        images=images,
        latents=open_array(work / "latents_test.npy"),
        embeddings=see(images),
        training_images=open_array(scenes / "train.npy"),
        training_labels=load_json(scenes / "train.json"),
        held_out_r2={name: open_array(work / f"latents_{name}_cv_r2.npy") for name in REGRESSORS},
        describe={"clip_demo": see} | networks,
        not_computed=absent,
        find=Checker.load(work / "checker.safetensors").right,
    )


def evaluate_demo(work: Path, n_layers: int, options: Options) -> Evaluation:
    """Writes the evaluation's files and the contact sheets into `work`."""
    bundle = open_parts(work, {"n_layers": n_layers, "decoders": "own"})
    inputs = gather(work, bundle)
    trials, rows = bundle.subject.test, np.arange(len(inputs.images))
    test = Candidates(
        bundle, rows, trials.averaged(), [e["captions"] for e in trials.labels], np.asarray(inputs.latents)
    )
    draw_sheets(test, inputs.images, work, seed=0)
    return evaluate(inputs, work, options)
