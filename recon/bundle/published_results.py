"""What papers report on the Natural Scenes Dataset; never set beside a simulated subject.

Each row has the protocol by which its paper scored, and the number of test images. Rows stand beside ours only where both are the
same; `precompute.evaluation.protocols` says what the protocols are. SSIM of Brain-Diffuser's rows is the legacy, per-column one.
Takagi & Nishimoto's row is as MindEye's table cites it, by their own networks and layers; of Brain-IT's paper it is not known here
how many images it scored.
"""

from __future__ import annotations

from dataclasses import dataclass

from recon.bundle.evaluation import Evaluation

COLUMNS = ("pixcorr", "ssim", "alexnet2", "alexnet5", "inception", "clip", "effnet", "swav")
IDENTIFICATION = ("alexnet2", "alexnet5", "inception", "clip")  # printed in percent; here, as everywhere, a share
BRAIN_DIFFUSER, MINDEYE, OTHER = "brain-diffuser", "mindeye", "their own"
FOUR, FIRST = "1, 2, 5, 7", "1"


@dataclass(frozen=True)
class Published:
    """One row of a paper's table."""

    method: str
    year: int
    subjects: str
    stage: str  # "vdvae" or "lcm"
    protocol: str
    n_images: int | None
    scores: dict[str, float]  # metric -> mean; what the paper does not give is absent


def _row(method: str, year: int, subjects: str, stage: str, how: tuple[str, int | None], *values: float | None):
    """`values` in the order of COLUMNS, as printed."""
    ssim = "ssim_legacy" if how[0] == BRAIN_DIFFUSER else "ssim"
    named = {ssim if name == "ssim" else name: v for name, v in zip(COLUMNS, values, strict=True) if v is not None}
    scores = {name: v / 100 if name in IDENTIFICATION else v for name, v in named.items()}
    return Published(method, year, subjects, stage, *how, scores)


_OZCELIK, _SCOTTI = (BRAIN_DIFFUSER, 982), (MINDEYE, 982)
PUBLISHED = [
    _row("Takagi & Nishimoto", 2023, FOUR, "lcm", (OTHER, 982), None, None, 83.0, 83.0, 76.0, 77.0, None, None),
    _row("Brain-Diffuser", 2023, FOUR, "lcm", _OZCELIK, 0.254, 0.356, 94.2, 96.2, 87.2, 91.5, 0.775, 0.423),
    _row("Brain-Diffuser", 2023, FIRST, "lcm", _OZCELIK, 0.305, 0.367, 96.7, 97.4, 87.8, 92.5, 0.768, 0.415),
    _row("Brain-Diffuser, VDVAE", 2023, FIRST, "vdvae", _OZCELIK, 0.358, 0.437, 97.7, 97.6, 77.0, 71.1, 0.906, 0.581),
    _row("MindEye1", 2023, FOUR, "lcm", _SCOTTI, 0.309, 0.323, 94.7, 97.8, 93.8, 94.1, 0.645, 0.367),
    _row("MindEye2", 2024, FOUR, "lcm", (MINDEYE, 1000), 0.322, 0.431, 96.1, 98.6, 95.4, 93.0, 0.619, 0.344),
    _row("Brain-IT", 2026, FOUR, "lcm", (MINDEYE, None), 0.386, 0.486, 98.4, 99.5, 97.3, 96.4, 0.564, 0.320),
]


def published_beside(evaluation: Evaluation) -> list[Published]:
    """The rows that may stand beside an evaluation: of the same protocol and as many images, none beside a simulated subject."""
    how = evaluation.protocol["name"], evaluation.n_images
    return [p for p in PUBLISHED if not evaluation.simulated and (p.protocol, p.n_images) == how]
