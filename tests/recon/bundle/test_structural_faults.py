"""A bundle whose manifest or configurations say nonsense is opened, or refused in one short sentence."""

import json
import shutil

import numpy as np
import pytest

from recon.bundle.bundle import load_bundle
from recon.bundle.manifest import FIELDS, rewrite_manifest
from recon.files import BadFile

NONSENSE = (None, [], {}, -1, True, "x" * 5000, "two\nlines" * 200, [["a"]] * 500, {"a": {"b": 1}})
CONFIGS = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
)
GONE = object()


def opened_or_refused(folder) -> str:
    try:
        load_bundle(folder).diffusion  # noqa: B018 - opens it
    except BadFile as error:
        return str(error)
    return ""


def with_fault(content: dict, key: str, value) -> dict:
    return {k: v for k, v in (content | {key: value}).items() if v is not GONE}


def is_short(said: str) -> bool:
    return len(said) <= 600 and "\n" not in said


def test_nonsense_in_a_manifest_is_refused_in_one_short_sentence(tiny_bundle):
    path = tiny_bundle / "manifest.json"
    whole = json.loads(path.read_text())
    for key in whole:
        for value in (GONE, *NONSENSE):
            path.write_text(json.dumps(with_fault(whole, key, value)))
            assert is_short(said := opened_or_refused(tiny_bundle)), (key, said)
            assert said or key not in FIELDS or (key, value) == ("simulated", True), (key, value)


@pytest.mark.slow
def test_nonsense_in_a_pipelines_configurations_is_read_or_refused_in_one_short_sentence(tiny_bundle, tmp_path):
    rng, faults = np.random.default_rng(0), []
    for name in CONFIGS:
        whole = json.loads((tiny_bundle / "diffusion" / name).read_text())
        faults += [(name, with_fault(whole, key, value)) for key in whole for value in (GONE, *NONSENSE)]
    for k in rng.permutation(len(faults))[:40]:
        name, content = faults[k]
        folder = tmp_path / str(k)
        shutil.copytree(tiny_bundle, folder)
        (folder / "diffusion" / name).write_text(json.dumps(content))
        rewrite_manifest(folder)
        assert is_short(said := opened_or_refused(folder)), (name, said)
        shutil.rmtree(folder)
