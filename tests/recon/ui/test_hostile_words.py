"""Nothing that a link, an endpoint's caller or a bundle says becomes HTML of the page."""

import json
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from stand_in_evaluation import made_up_evaluation

from recon.bundle.evaluation import save_evaluation
from recon.bundle.manifest import read_manifest
from recon.files import BadFile, load_json, save_json
from recon.settings import LCMSettings, Settings
from recon.share import from_query
from recon.ui.html.panel import header
from recon.ui.tabs import evaluate_tab as evaluate
from recon.ui.tabs.about_tab import data_words, version_words
from recon.ui.told import in_one_sentence

HOSTILE = "<img src=x onerror=alert(1)>"


def places(content, path=()):
    """Paths of all leaves and all keys of a JSON document; of lists only the first item stands for all."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield (*path, key), True
            yield from places(value, (*path, key))
    elif isinstance(content, list):
        if content:
            yield from places(content[0], (*path, 0))
    else:
        yield path, False


def with_hostile(content: dict, path: tuple, is_key: bool) -> dict:
    """A copy in which the leaf, or the key, at `path` is hostile."""
    made = json.loads(json.dumps(content))
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    if is_key:
        inner[HOSTILE] = inner.pop(path[-1])
    else:
        inner[path[-1]] = HOSTILE
    return made


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    images = np.random.default_rng(1).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    save_evaluation(folder, made_up_evaluation(images))
    return folder, images


def test_no_string_of_an_evaluation_becomes_html(evaluated):
    folder, images = evaluated
    whole, n_shown = load_json(folder / "evaluation.json"), 0
    for path, is_key in list(places(whole)):
        save_json(folder / "evaluation.json", with_hostile(whole, path, is_key))
        subject = SimpleNamespace(test=SimpleNamespace(images=images))
        studio = type("Studio", (), {"folder": folder, "subject": subject})()
        shown = evaluate.opened(studio, 0, None, "lcm", "random")
        texts = [value for value in shown if isinstance(value, str)]
        assert texts and not [text for text in texts if "<img src=x" in text], path
        n_shown += any("&lt;img src=x" in text for text in texts)
    save_json(folder / "evaluation.json", whole)
    assert n_shown > 10


@pytest.mark.parametrize("path", ["name", "simulated", "n_layers", "components", "decoders", "format", "version"])
def test_no_field_of_a_manifest_becomes_html(tiny_bundle, path):
    content = load_json(tiny_bundle / "manifest.json")
    save_json(tiny_bundle / "manifest.json", content | {path: HOSTILE})
    with pytest.raises(BadFile):
        read_manifest(tiny_bundle)


def test_what_an_open_bundle_says_of_how_it_was_made_is_not_html(tiny_bundle):
    content = load_json(tiny_bundle / "manifest.json")
    hostile = {"n_corpus": HOSTILE, "n_train": HOSTILE, "rescaling": {"coarse": HOSTILE, "fine": HOSTILE}}
    save_json(tiny_bundle / "manifest.json", content | hostile)
    with pytest.raises(BadFile, match="expected n_corpus to be of type int"):
        read_manifest(tiny_bundle)
    save_json(tiny_bundle / "manifest.json", content | {"unknown": HOSTILE})
    manifest = read_manifest(tiny_bundle)
    for words in (header(manifest, {}), data_words(manifest), version_words(manifest)):
        assert "<img src=x" not in words


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Settings(regressor=HOSTILE),
        lambda: Settings(prompt=HOSTILE),
        lambda: Settings(prompt=[HOSTILE]),
        lambda: Settings(gains=((HOSTILE, 9),)),
        lambda: Settings(components=HOSTILE),
        lambda: LCMSettings(seed=HOSTILE),
        lambda: from_query(f"?regressor={HOSTILE}", 3),
        lambda: from_query(f"?gains={HOSTILE}*7", 3),
    ],
)
def test_what_a_link_or_a_caller_says_is_quoted_as_text(wrong):
    with pytest.raises(ValueError) as error:
        wrong()
    told = in_one_sentence(error.value)
    assert isinstance(told, gr.Error) and "<img" not in told.message and "&lt;img" in told.message


@pytest.mark.parametrize(
    "long",
    [
        lambda: Settings(regressor="x" * 10**6),
        lambda: Settings(own_prompt="x" * 301),
        lambda: Settings(prompt="own", own_prompt="x" * 10**6),
        lambda: Settings(gains=tuple((f"area {k}", 1.0) for k in range(65))),
        lambda: Settings(gains=(("x" * 10**6, 1.0),)),
        lambda: Settings(own_prompt=["x"] * 10**5),
        lambda: LCMSettings(seed="9" * 10**6),
    ],
)
def test_what_is_asked_is_bounded_and_refused_in_a_line(long):
    with pytest.raises(ValueError) as error:
        long()
    assert len(str(error.value)) < 300


def test_equal_wishes_are_equal_settings_of_plain_numbers():
    settings = Settings(lcm=LCMSettings(steps=4.0, seed=1.0), components=3.0)
    assert type(settings.lcm.steps) is type(settings.lcm.seed) is type(settings.components) is int
    assert settings == Settings(lcm=LCMSettings(steps=4, seed=1), components=3)
    assert np.arange(settings.lcm.steps).size == 4
