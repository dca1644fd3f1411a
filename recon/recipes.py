"""How a bundle's stage 1 was fitted and is drawn: our way, or that of Brain-Diffuser's published scripts.

A manifest names its recipe; all that a page does otherwise for it is said here.
"""

from __future__ import annotations

from dataclasses import dataclass

BRAIN_DIFFUSER = "brain-diffuser"
TRANSDUCTIVE = (
    "transductive: rescaled by mean and SD of the predictions for all test images, which no single response could give"
)


@dataclass(frozen=True)
class Drawing:
    """How a VDVAE draws what its latents leave open: the most likely image, without noise, or one that is drawn, by seed."""

    temperature: float = 0.0  # of the layers that are not given: their prior's mean plus so many of its SDs times noise
    sample: bool = False  # of the output mixture, instead of its expectation


@dataclass(frozen=True)
class Recipe:
    """`transductive`: regressors of the latents whose gains come from predictions for the test images."""

    drawing: Drawing = Drawing()
    transductive: tuple[str, ...] = ()


RECIPES = {"own": Recipe(), BRAIN_DIFFUSER: Recipe(Drawing(1.0, sample=True), ("ridge",))}  # the first is the default


def recipe_of(manifest: dict) -> Recipe:
    """The recipe that a checked manifest names."""
    return RECIPES[manifest.get("recipe", next(iter(RECIPES)))]
