"""What papers report on the Natural Scenes Dataset; never set beside a simulated subject.

Comparable only under the same protocol: 982 test images, PixCorr and SSIM at 425², networks at 224². SSIM of Brain-Diffuser's rows
is the legacy, per-column one.
"""

from __future__ import annotations

from recon.bundle.evaluation import Evaluation

COLUMNS = ("pixcorr", "ssim", "alexnet2", "alexnet5", "inception", "clip", "effnet", "swav")
_TABLE = (  # method, year, subjects, stage, which SSIM, values in the order of COLUMNS
    ("Brain-Diffuser", 2023, "1, 2, 5, 7", "lcm", "ssim_legacy", (0.254, 0.356, 94.2, 96.2, 87.2, 91.5, 0.775, 0.423)),
    ("Brain-Diffuser", 2023, "1", "lcm", "ssim_legacy", (0.305, 0.367, 96.7, 97.4, 87.8, 92.5, 0.768, 0.415)),
    ("Brain-Diffuser, VDVAE", 2023, "1", "vdvae", "ssim_legacy", (0.358, 0.437, 97.7, 97.6, 77.0, 71.1, 0.906, 0.581)),
    ("MindEye1", 2023, "1, 2, 5, 7", "lcm", "ssim", (0.309, 0.323, 94.7, 97.8, 93.8, 94.1, 0.645, 0.367)),
    ("MindEye2", 2024, "1, 2, 5, 7", "lcm", "ssim", (0.322, 0.431, 96.1, 98.6, 95.4, 93.0, 0.619, 0.344)),
    ("Brain-IT", 2026, "1, 2, 5, 7", "lcm", "ssim", (0.386, 0.486, 98.4, 99.5, 97.3, 96.4, 0.564, 0.320)),
)
IDENTIFICATION = ("alexnet2", "alexnet5", "inception", "clip")  # printed in percent; here, as everywhere, a share


def _row(method: str, year: int, subjects: str, stage: str, ssim: str, values: tuple[float, ...]) -> dict:
    names = [ssim if name == "ssim" else name for name in COLUMNS]
    scores = {name: v / 100 if name in IDENTIFICATION else v for name, v in zip(names, values)}
    return {"method": method, "year": year, "subjects": subjects, "stage": stage, "scores": scores}


PUBLISHED = [_row(*row) for row in _TABLE]


def published_beside(evaluation: Evaluation) -> list[dict]:
    """The rows that may stand beside an evaluation: those of its subject and protocol, or none."""
    comparable = not evaluation.simulated and evaluation.protocol["name"] == "brain-diffuser"
    return PUBLISHED if comparable else []
