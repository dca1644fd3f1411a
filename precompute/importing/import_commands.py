"""`python -m precompute import arrays FOLDER`: other experiments than NSD's raw files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from precompute.importing.experiment import Experiment
from precompute.terminal import failing_in_one_sentence
from recon.files import BadFile

app = typer.Typer(no_args_is_help=True, help="Makes a subject of another experiment's files.")

Number = Annotated[int, typer.Option(min=1, max=8, help="NSD subject.")]
Name = Annotated[str | None, typer.Option(help="Of the subject; by default that of the folder.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the prepared subject; by default data/imported/NAME.")]
Describe = Annotated[bool, typer.Option("--describe", help="Only say what is there and what would be done.")]
Drop = Annotated[bool, typer.Option("--drop-voxels", help="Leave out voxels that hold NaN or infinity.")]
Captions = Annotated[
    Path | None, typer.Option(help="Captions, one a line: every image gets the nearest, by CLIP (`fetch models`).")
]


@app.command()
def arrays(
    folder: Annotated[Path, typer.Argument(help="With trials.csv, responses, images: precompute/README.md.")],
    name: Name = None,
    out: Out = None,
    describe: Describe = False,
    test_share: Annotated[
        float, typer.Option(min=0.01, max=0.5, help="Of the images, where trials.csv has no column split.")
    ] = 0.1,
    drop_voxels: Drop = False,
    caption_list: Captions = None,
):
    """Anybody's experiment: tables, arrays or volumes, images."""
    from precompute.importing.arrays import read_arrays
    from precompute.importing.write_subject import Options

    _import(lambda: read_arrays(folder, name, test_share), out, Options(drop_voxels, caption_list), describe)


@app.command()
def mindeye2(
    folder: Annotated[Path, typer.Argument(help="Of MindEye2's files, as on the Hub.")] = Path("data/mindeye2"),
    subject: Number = 1,
    name: Name = None,
    out: Out = None,
    describe: Describe = False,
    drop_voxels: Drop = False,
    caption_list: Captions = None,
):
    """A subject of NSD from MindEye2's files: about 23 GB instead of 80."""
    from precompute.importing.mindeye2 import read_mindeye2
    from precompute.importing.write_subject import Options

    _import(lambda: read_mindeye2(folder, subject, name), out, Options(drop_voxels, caption_list), describe)


@app.command()
def algonauts(
    folder: Annotated[Path, typer.Argument(help="With subj01, subj02 … as the challenge's archives unpack.")],
    subject: Number = 1,
    name: Name = None,
    out: Out = None,
    describe: Describe = False,
    drop_voxels: Drop = False,
    caption_list: Captions = None,
):
    """A subject of the Algonauts 2023 challenge, on the cortical surface."""
    from precompute.importing.algonauts import read_algonauts
    from precompute.importing.write_subject import Options

    _import(lambda: read_algonauts(folder, subject, name), out, Options(drop_voxels, caption_list), describe)


def _import(read: Callable[[], Experiment], out: Path | None, options, describe: bool) -> None:
    """Imports what is read, or says what that would do."""
    from precompute.importing.write_subject import import_experiment

    with failing_in_one_sentence():
        experiment = read()
        if describe:
            _describe(experiment, options.drop_voxels)
            return
        out = out or Path("data/imported") / experiment.name
        report = import_experiment(experiment, out, options)
    print(json.dumps(report, indent=1, ensure_ascii=False))


def _describe(experiment: Experiment, drop_voxels: bool) -> None:
    from precompute.importing.describe import describe
    from precompute.importing.findings import judge_experiment
    from precompute.importing.survey import survey_responses

    survey = survey_responses(experiment)
    findings = judge_experiment(experiment, survey, drop_voxels)
    print("\n".join(describe(experiment, survey, findings)))
    if findings.refusals:
        raise BadFile(f"{len(findings.refusals)} things to change before this can be imported")
