"""A subject, from raw files to an evaluated bundle.

`python -m precompute prepare | features | fit | encode | bundle | evaluate --subject N`; all but `prepare` also take the name of an
imported subject (`python -m precompute import`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from precompute.terminal import command_line, failing_in_one_sentence

Subject = Annotated[str, typer.Option(help="An NSD subject, 1 to 8, or the name of an imported one.")]
Folder = Annotated[
    Path | None, typer.Option(help="Of the prepared subject; by default where `prepare` or `import` puts it.")
]


def called(subject: str) -> str:
    """The subject's name in paths."""
    return f"subj{int(subject):02d}" if subject in tuple("12345678") else subject


def prepared(subject: str) -> Path:
    """Where a subject's files lie unless told otherwise."""
    return Path("data/nsd-prepared" if subject in tuple("12345678") else "data/imported") / called(subject)


def bundled(subject: str) -> Path:
    """Where a subject's bundle lies unless told otherwise."""
    return Path("data/bundles") / called(subject)


class Recipe(StrEnum):
    session = "session"
    brain_diffuser = "brain-diffuser"


class Export(StrEnum):
    brain_diffuser = "brain-diffuser"


def prepare(
    subject: Annotated[int, typer.Option(min=1, max=8, help="NSD subject.")],
    sessions: Annotated[
        int | None, typer.Option(help="Use the first N sessions; all of the subject's if absent.")
    ] = None,
    recipe: Annotated[Recipe | None, typer.Option(help="How voxels are standardised.")] = None,
    nsd: Annotated[Path, typer.Option(help="Folder of the raw files.")] = Path("data/nsd"),
    out: Annotated[Path | None, typer.Option(help="Folder of the prepared subject; a rerun resumes there.")] = None,
    brain_diffuser: Annotated[
        Path | None, typer.Option(help="Read this folder of Brain-Diffuser's, not betas.")
    ] = None,
    export: Annotated[Export | None, typer.Option(help="Write Brain-Diffuser's files as well.")] = None,
    export_to: Annotated[Path | None, typer.Option(help="Where to; by default OUT/brain-diffuser.")] = None,
):
    """Natural Scenes Dataset: raw betas, stimuli and captions become a subject."""
    from precompute.nsd.prepare import prepare as run
    from precompute.nsd.prepare_job import choose_settings

    out = out or prepared(str(subject))
    with failing_in_one_sentence():
        settings = choose_settings(subject, sessions, recipe and recipe.value, brain_diffuser)
        report = run(nsd, out, settings, brain_diffuser, (export_to or out / "brain-diffuser") if export else None)
    print(json.dumps(report, indent=1))


class Target(StrEnum):
    vdvae = "vdvae"
    clip_text = "clip-text"
    clip_vision = "clip-vision"
    vdvae_samples = "vdvae-samples"


class Dtype(StrEnum):
    float32 = "float32"
    float16 = "float16"


def features(
    subject: Subject,
    target: Annotated[Target, typer.Option(help="What the regressors are to predict.")],
    dtype: Annotated[Dtype, typer.Option(help="float16 takes half of the disk.")] = Dtype.float32,
    batch: Annotated[int, typer.Option(min=1, help="Pictures that go through the model together.")] = 8,
    folder: Folder = None,
):
    """What a published model says of every picture or caption. A rerun resumes."""
    from precompute.nsd import subject_to_bundle

    _run(lambda: subject_to_bundle.features(folder or prepared(subject), target.value, dtype.value, batch), shared=True)


class Alpha(StrEnum):
    held_out = "held-out"
    per_target = "per-target"
    brain_diffuser = "brain-diffuser"


class Network(StrEnum):
    own = "own"
    student = "student"


class StageOne(StrEnum):
    own = "own"
    brain_diffuser = "brain-diffuser"


def fit(
    subject: Subject,
    alpha: Annotated[
        Alpha,
        typer.Option(help="Of ridge: by held-out training images, for groups or for each target; or the papers'."),
    ] = Alpha.held_out,
    mlp: Annotated[
        Network, typer.Option(help="Averaged with ridge; or the student project's, alone, on raw voxels.")
    ] = Network.own,
    recipe: Annotated[
        StageOne, typer.Option(help="Of stage 1: ours, or Brain-Diffuser's, whose rescaling is transductive.")
    ] = StageOne.own,
    folder: Folder = None,
):
    """Ridge and MLP from voxels to the three features."""
    from precompute.fitting.train_network import STUDENT
    from precompute.nsd import subject_to_bundle

    training = STUDENT if mlp is Network.student else subject_to_bundle.TRAINING
    how = subject_to_bundle.How(alpha.value, recipe.value, training)
    _run(lambda: subject_to_bundle.fit_targets(folder or prepared(subject), how), shared=True)


def encode(subject: Subject, folder: Folder = None):
    """From pictures to voxels: how well each voxel is explained."""
    from precompute.nsd import subject_to_bundle

    _run(lambda: subject_to_bundle.encode_voxels(folder or prepared(subject)))


class Adapter(StrEnum):
    base = "base"
    light = "light"


class Embedding(StrEnum):
    gain = "gain"
    norm = "norm"
    none = "none"


def bundle(
    subject: Subject,
    folder: Folder = None,
    out: Annotated[Path | None, typer.Option(help="By default data/bundles/NAME.")] = None,
    adapter: Annotated[
        Adapter, typer.Option(help="By which image embeddings guide stage 2; light is gentler on text.")
    ] = Adapter.base,
    embedding: Annotated[
        Embedding,
        typer.Option(help="How decoded ones are rescaled: each number's spread, the whole's norm, or not at all."),
    ] = Embedding.gain,
):
    """Everything that the page needs of the subject, in one folder."""
    from precompute.nsd import subject_to_bundle

    guidance = subject_to_bundle.Guidance(adapter.value, embedding.value)
    _run(lambda: subject_to_bundle.make_bundle(folder or prepared(subject), out or bundled(subject), guidance))


class Protocol(StrEnum):
    own = "own"
    brain_diffuser = "brain-diffuser"
    mindeye = "mindeye"


def evaluate(
    subject: Annotated[str | None, typer.Option(help="An NSD subject, 1 to 8, or the name of an imported one.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="The simulated subject instead.")] = False,
    limit: Annotated[int | None, typer.Option(help="So many test images, drawn at random; by default all.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of stage 2.")] = 3,
    protocol: Annotated[
        Protocol, typer.Option(help="Sizes and images: ours, or those of Brain-Diffuser's or MindEye's tables.")
    ] = Protocol.own,
    folder: Annotated[Path | None, typer.Option(help="Of the prepared subject, or of the demo's files.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="What is evaluated; the evaluation becomes a part of it.")] = None,
):
    """How good both stages are, beside nulls and ceilings, on the test images. A rerun resumes."""
    from precompute.evaluation.evaluate import Options

    options = Options(limit, seeds, protocol.value)
    if demo == (subject is not None):
        raise typer.BadParameter("expected one of --subject N and --demo")
    if demo:
        from precompute.demo.pipeline import evaluate_bundle
        from precompute.team import team

        work, out = folder or Path("data/demo"), bundle or Path("assets/demo")
        _run(lambda: evaluate_bundle(work, out, options, command_line(), team()), shared=True)
    else:
        from precompute.nsd import subject_to_bundle

        out = bundle or bundled(subject)
        _run(lambda: subject_to_bundle.evaluate_bundle(folder or prepared(subject), out, options), shared=True)


def refits(
    subject: Annotated[str | None, typer.Option(help="An NSD subject, 1 to 8, or the name of an imported one.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="The simulated subject instead.")] = False,
    fits: Annotated[int, typer.Option(min=2, help="How many, with the seeds 1, 2, …")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Of the prepared subject, or of the demo's files.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="What has been fitted.")] = None,
):
    """How far stage 1's scores move between fits; `evaluate`, run afterwards in the same folder, tells it. A rerun resumes."""
    if demo == (subject is not None):
        raise typer.BadParameter("expected one of --subject N and --demo")
    if demo:
        from precompute.demo.demo_evaluation import refit_demo

        _run(lambda: refit_demo(folder or Path("data/demo"), bundle or Path("assets/demo"), fits))
    else:
        from precompute.nsd.subject_to_bundle import refit_latents

        out = bundle or bundled(subject)
        _run(lambda: refit_latents(folder or prepared(subject), out, fits))


def run(
    subjects: Annotated[list[str], typer.Option(help="As for --subject, one --subjects each.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is done, stale or missing.")] = False,
):
    """All stages from prepared files to evaluated bundles; what is done is not done again."""
    from precompute.nsd import plan

    def one(subject: str) -> list[dict]:
        folder, out = prepared(subject), bundled(subject)
        steps = plan.subject_steps(folder, out)
        return plan.show(steps) if dry_run else plan.run(steps)

    _run(lambda: {called(subject): one(subject) for subject in subjects}, shared=True)


def card(
    bundle: Annotated[Path, typer.Option(help="What has been evaluated.")] = Path("assets/demo"),
    into: Annotated[Path, typer.Option(help="A Markdown file with the two marks of the section.")] = Path(
        "assets/demo/README.md"
    ),
):
    """Writes the section of a model card that says how good a bundle is, from its evaluation."""
    from precompute.evaluation.model_card import write_card

    with failing_in_one_sentence():
        write_card(bundle, into)


def _run(stage: Callable[[], dict], shared: bool = False) -> None:
    """Prints what the stage returns. Of several processes all work on a stage that they share, else the first alone."""
    from precompute.team import team

    with failing_in_one_sentence():
        me = team()
        report = stage() if shared or me.first else {}
        me.wait()
    if me.first:
        print(json.dumps(report, indent=1, ensure_ascii=False))
