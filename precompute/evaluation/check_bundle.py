"""What of a bundle's numbers would not stand: `python -m precompute check bundle FOLDER`, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from precompute.evaluation.protocols import PUBLISHED_PROTOCOLS
from recon.bundle.bundle import Bundle, load_bundle
from recon.bundle.evaluation import Evaluation, load_evaluation
from recon.bundle.manifest import is_evaluated
from recon.recipes import TRANSDUCTIVE
from recon.regressors.low_rank import LowRank
from recon.regressors.mlp import MLP
from recon.regressors.standardise import Rescaler

AGAIN = "run `python -m precompute evaluate` again"


def check_bundle(folder: Path) -> list[str]:
    """A line for each thing that is wrong with the bundle in `folder`; empty if nothing is. Raises BadFile."""
    bundle = load_bundle(folder)
    lines = [*_recipe(bundle), *_shares(bundle), *_repeats(bundle), *_gains(bundle), *_constant_targets(bundle)]
    if not is_evaluated(bundle.manifest):
        return [*lines, "evaluation: there is none, run `python -m precompute evaluate`"]
    evaluation = load_evaluation(folder)
    return [*lines, *_told_shares(evaluation), *_protocol(evaluation), *_machine(evaluation)]


def _recipe(bundle: Bundle) -> Iterator[str]:
    for name in bundle.recipe.transductive:
        yield f"recipe: stage 1 is that of {bundle.manifest['recipe']}, and the latents of {name} are {TRANSDUCTIVE}"


def _shares(bundle: Bundle) -> Iterator[str]:
    for target, models in bundle.regressors.items():
        mlp = models["mlp"]
        if isinstance(mlp, MLP) and not mlp.network.outward.weight.any():
            yield f"shares: the MLP of {target} is ridge under another name, its network weighs nothing: fit it again"


def _repeats(bundle: Bundle) -> Iterator[str]:
    test = bundle.subject.test
    if test.n_trials is None and (test.n_apart == 1).all():
        yield (
            "repeats: one response to each test image, and not told how many trials it is the mean of: ceilings are those of "
            "single trials, prepare the subject again"
        )


def _gains(bundle: Bundle) -> Iterator[str]:
    for name, model in bundle.regressors["latents"].items():
        capped = float(np.mean(model.rescale.gain >= Rescaler.MAX_GAIN))
        if capped > 0 and name not in bundle.recipe.transductive:
            yield f"gains: {100 * capped:.1f} % of the latents of {name} are at the cap of {Rescaler.MAX_GAIN:g}: less contrast"


def _constant_targets(bundle: Bundle) -> Iterator[str]:
    for target, models in bundle.regressors.items():
        ridge = models["ridge"]
        if isinstance(ridge, LowRank):
            spread = np.square(ridge.up).sum(0)
            n = int((spread <= 1e-7 * spread.mean()).sum())
            if n:
                yield f"constant targets: {n} of {len(spread)} of {target}: a mean R² over all of them means nothing"


def _told_shares(evaluation: Evaluation) -> Iterator[str]:
    if "shares" not in evaluation.tables:
        yield f"shares: the evaluation does not tell the network's share of each MLP: {AGAIN}"


def _protocol(evaluation: Evaluation) -> Iterator[str]:
    name, n = evaluation.protocol["name"], evaluation.n_images
    protocol = PUBLISHED_PROTOCOLS.get(name)
    if evaluation.simulated:
        return
    if protocol is None:
        yield f"protocol: “{name}”, n = {n}: no published number may stand beside these"
    elif n != protocol.n_images or "effnet_weights" not in evaluation.protocol:
        yield f"protocol: “{name}” with n = {n} is not that of the paper, whose n is {protocol.n_images}: {AGAIN}"


def _machine(evaluation: Evaluation) -> Iterator[str]:
    if not evaluation.machine:
        yield f"device: the evaluation does not tell device, dtype, image side and autoencoder: {AGAIN}"
