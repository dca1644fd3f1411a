"""The demo's networks, each a stage: CLIP, VDVAE, autoencoder, UNet, LCM-LoRA, and the checker of what an image shows.

The decoders among them take hours on two cores and minutes on a GPU: a machine that has one needs this module, skia-python and
diffusers. What it has made in its work folder, another machine goes on from: `python -m precompute demo --decoders FOLDER`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from precompute.demo import world
from precompute.demo.assess import assemble_pipeline
from precompute.demo.chain import cost_of, plain, reach, report_of, staged
from precompute.demo.checker import train_checker
from precompute.demo.condition import Adapted
from precompute.demo.recipe import SMOKE, Settings, further
from precompute.demo.sharpen_lcm import sharpen_lcm
from precompute.demo.taken import FIXED, REPORTS, taken_stage
from precompute.demo.train_adapter import extract_both, train_adapter
from precompute.demo.train_clip import train_clip
from precompute.demo.train_codec import train_codec
from precompute.demo.train_lcm import Walking, extract_walks, train_lcm
from precompute.demo.train_unet import Sources, extract_codes, extract_tokens, train_unet
from precompute.demo.train_vdvae import train_vdvae
from precompute.demo.training import Weights
from precompute.folder_lock import working_in
from precompute.stage import Stage, place_of
from precompute.terminal import failing_in_one_sentence
from recon.bundle.manifest import ADAPTER
from recon.files import save_json

AGAIN = 100  # added to the seed of a training that starts from weights: other batches than the first time
NETWORKS = (*REPORTS, "pipeline")


def scene_stage(work: Path, split: str, n: int, seed: int) -> Stage:
    """Draws the images of one split, at both sizes, and their labels."""
    folder = work / "scenes"
    outputs = [folder / f"{split}{rest}" for rest in (".npy", f"_{world.SMALL}.npy", ".json")]
    return staged(f"{split} scenes", (), outputs, partial(world.make_scenes, folder, split), n=n, seed=seed)


def _weights(work: Path, file: str, name: str, start: Path | None = None) -> Weights:
    return Weights(work / file, place_of(work, name), start)


def _judges(work: Path, s: Settings) -> list[Stage]:
    """CLIP, and the checker."""
    scenes = work / "scenes"
    seen = [scenes / f"{split}{rest}" for split in ("train", "test") for rest in (".npy", ".json")]
    small = [scenes / f"{split}{rest}" for split in ("train", "test") for rest in (f"_{world.SMALL}.npy", ".json")]
    clip, checker = _weights(work, "clip", "CLIP"), _weights(work, "checker.safetensors", "checker")
    how = {"phases": s.clip_schedules, "size": s.clip, "seed": s.seed}
    return [
        staged("CLIP", seen, [clip.out], partial(train_clip, scenes, clip), **how),
        staged(
            "checker",
            small,
            [checker.out],
            partial(train_checker, scenes, checker),
            schedule=s.checker_schedule,
            seed=s.seed,
        ),
    ]


def _vdvae(work: Path, s: Settings, start: Path | None) -> Stage:
    scenes = [work / "scenes" / f"{split}_{world.SMALL}.npy" for split in ("corpus", "test")]
    weights = _weights(work, "vdvae.safetensors", "VDVAE", start and start / "vdvae.safetensors")
    run, how = partial(train_vdvae, *scenes, weights), {"schedule": s.vdvae_schedule, "cfg": s.vdvae}
    inputs = [*scenes, *([weights.start] if start else [])]
    return staged("VDVAE", inputs, [weights.out], run, **how, seed=_seed(s, start))


def _seed(s: Settings, start: Path | None) -> int:
    return s.seed + (AGAIN if start else 0)


def _autoencoder(work: Path, s: Settings) -> Stage:
    images = [work / "scenes" / f"{split}.npy" for split in ("corpus", "test")]
    weights = _weights(work, "codec", "autoencoder")
    how = {"schedule": s.codec_schedule, "size": s.codec, "seed": s.seed}
    return staged("autoencoder", images, [weights.out], partial(train_codec, *images, weights), **how)


def _unet(work: Path, s: Settings, start: Path | None) -> list[Stage]:
    """The UNet, and what it learns from."""
    scenes, files = work / "scenes", _sources(work)
    weights = _weights(work, "unet", "UNet", start and start / "diffusion" / "unet")
    images, codec, labels = scenes / "corpus.npy", work / "codec", scenes / "corpus.json"
    inputs = [files.ids, files.codes, files.clip, *([start / "diffusion"] if start else [])]
    how = {"phases": s.unet_schedules, "size": s.unet, "seed": _seed(s, start)}
    return [
        staged("codes", [images, codec], [files.codes], partial(extract_codes, images, codec, files.codes)),
        staged("tokens", [labels, files.clip], [files.ids], partial(extract_tokens, labels, files.clip, files.ids)),
        staged("UNet", inputs, [weights.out], partial(train_unet, files, weights), **how),
    ]


def _sources(work: Path) -> Sources:
    corpus = (work / f"{name}_corpus.npy" for name in ("tokens", "codes", "embeddings"))
    ids, codes, embeddings = corpus
    return Sources(ids, codes, work / "clip", embeddings)


def _adapter(work: Path, s: Settings) -> list[Stage]:
    """The image adapter of the UNet, and the embeddings that it learns from."""
    files, images, vision = _sources(work), work / "scenes" / "corpus.npy", work / "clip" / "vision"
    weights, unet = _weights(work, ADAPTER, "image adapter"), work / "unet"
    read, how = [files.ids, files.codes, files.clip, unet], {"schedule": s.adapter_schedule, "seed": s.seed}
    seen = files.embeddings
    return [
        staged("corpus embeddings", [images, files.clip], [seen], partial(extract_both, images, vision, seen)),
        staged("image adapter", [*read, seen], [weights.out], partial(train_adapter, files, unet, weights), **how),
    ]


def _lcm(work: Path, s: Settings, start: Path | None) -> list[Stage]:
    """The LCM-LoRA, first soft, then sharpened, and the walks that it learns from."""
    files, networks = _sources(work), Adapted(work / "unet", work / ADAPTER)
    walks, own = work / "walks.npz", work / "own_walks.npz"
    soft = _weights(work, "lcm_soft.safetensors", "soft LCM-LoRA", start and start / "lcm_lora.safetensors")
    sharp, seed = _weights(work, "lcm_lora.safetensors", "LCM-LoRA", soft.out), _seed(s, start)
    begun = [soft.start] if start else []
    trained = [networks.unet, networks.adapter]
    read = [files.ids, files.codes, files.embeddings, files.clip, *trained]
    walk = partial(extract_walks, files, networks)
    teachers, students = Walking(s.lcm.walks, s.lcm.guidance, seed), Walking(s.lcm.own_walks, s.lcm.guidance, seed + 1)
    how = {"schedule": s.lcm_schedule, "rank": s.lcm.rank, "seed": seed}
    last = {"schedule": s.sharpen_schedule, "seed": seed + 1}
    return [
        staged("walks", read, [walks], partial(walk, walks), how=teachers),
        staged(
            "soft LCM-LoRA", [walks, *trained, *begun], [soft.out], partial(train_lcm, walks, networks, soft), **how
        ),
        staged("own walks", [*read, soft.out], [own], partial(walk, own, lora=soft.out), how=students),
        staged(
            "LCM-LoRA",
            [walks, own, *trained, soft.out],
            [sharp.out],
            partial(sharpen_lcm, walks, own, networks, sharp),
            **last,
        ),
    ]


def network_stages(work: Path, s: Settings, start: Path | None = None) -> list[Stage]:
    """All that the networks are made by.

    `start`: a folder of trained networks, from which VDVAE, UNet and LCM-LoRA go on; the others are taken as they are there.
    Raises BadFile if it lacks one.
    """
    clip, codec, unet = (work / name for name in ("clip", "codec", "unet"))
    assembled = [work / "diffusion", work / "vision"]
    splits = {"train": s.n_train, "test": s.n_test, "corpus": s.n_corpus}
    return [
        *(scene_stage(work, split, n, s.seed) for split, n in splits.items()),
        *([taken_stage(start, work, FIXED, s)] if start else [*_judges(work, s), _autoencoder(work, s)]),
        _vdvae(work, s, start),
        *_unet(work, s, start),
        *_adapter(work, s),
        *_lcm(work, s, start),
        staged("pipeline", [clip, codec, unet], assembled, partial(assemble_pipeline, clip, codec, unet, work)),
    ]


def provenance_of(stages: Sequence[Stage], settings: Settings) -> dict:
    """How each stage was made and what the networks reported, with the settings; of what was taken, as its source tells it.

    Where networks were trained further, "before" is the provenance of those that they started from.
    """
    by_name = {stage.name: stage for stage in stages}
    taken = (report_of(by_name["networks"]) if "networks" in by_name else None) or {}
    costs = {name: cost for name, stage in by_name.items() if (cost := cost_of(stage))}
    reports = {key: report_of(by_name[name]) for name, key in REPORTS.items() if name in by_name}
    told = {
        "stages": taken.get("stages", {}) | costs,
        "settings": plain(settings),
        "reports": taken.get("reports", {}) | {key: report for key, report in reports.items() if report},
    }
    if "VDVAE" in by_name:
        return told | ({"before": taken} if taken else {})
    before = {"before": taken["before"]} if "before" in taken else {}
    return told | {"settings": told["settings"] | taken["settings"]} | before


def train_networks(work: Path, settings: Settings, only: Sequence[str], start: Path | None, command: str) -> None:
    """Makes the networks of the stages `only`, or all, and writes `provenance.json` beside them. Raises BadFile."""
    with working_in(work):
        stages = network_stages(work, settings, start)
        reach([stage for stage in stages if stage.name in (only or NETWORKS)], stages, command)
        save_json(work / "provenance.json", provenance_of(stages, settings))


def main(
    work: Annotated[Path, typer.Option(help="Folder for what is made; a rerun goes on there.")] = Path("data/demo"),
    only: Annotated[
        list[str] | None, typer.Option(help="A stage to make, with what it needs; may be given several times.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="A bundle or work folder whose VDVAE, UNet and LCM-LoRA are trained further.")
    ] = None,
    smoke: Annotated[bool, typer.Option(help="Tiny networks and few steps, to try the scripts.")] = False,
) -> None:
    """Trains the networks of the simulated subject."""
    settings = SMOKE if smoke else Settings()
    with failing_in_one_sentence():
        command = " ".join(["python -m precompute.demo.decoders", *sys.argv[1:]])
        train_networks(work, further(settings) if start else settings, only or (), start, command)


if __name__ == "__main__":
    typer.run(main)
