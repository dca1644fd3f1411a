"""From the public servers to the page, by the commands of the README, on a miniature NSD and narrow published models.

Everything comes from local servers; the models have random weights and all layers of the published ones.
"""

import json
import os
import shutil
from pathlib import Path

import h5py
import huggingface_hub
import numpy as np
import pytest
from fake_lab import make_lab, write_lab
from fake_nsd import build_fake_nsd
from page_actions import SECONDS
from PIL import Image
from published import EMBEDDING, TOKENS, WIDTH, serve_models, serve_nsd, write_published
from served import open_browser, serve_apps
from sklearn.linear_model import Ridge
from stand_ins import Shelf, put_repository
from typer.testing import CliRunner

from precompute.__main__ import app
from precompute.evaluation import evaluate, summary
from precompute.evaluation.efficientnet_lite import is_installed
from precompute.fetching import fetch_nsd
from precompute.nsd.subject_to_bundle import evaluate_stage
from recon.brain.space import Volume
from recon.bundle.bundle import load_bundle
from recon.bundle.evaluation import load_evaluation
from recon.bundle.manifest import is_evaluated, read_manifest
from recon.decoders.published_models import locate
from recon.decoders.vdvae import load_openai
from recon.device import choose_side
from recon.files import load_json, save_json
from recon.recipes import Drawing
from recon.reconstruct import Shown, decode_layouts, decoded, reconstruct
from recon.settings import LCMSettings, Settings
from recon.ui.html.panel import header

SESSIONS = 3
N_LATENTS = 91_168
TARGETS = ("vdvae", "clip-text", "clip-vision")
SIDE = 8 * choose_side(64)  # of stage 2's pictures on this machine
CARDS = ("ridge", "mlp", "ceiling", "lcm")
BRAIN = "document.querySelector('.brain-plot').data.slice(0, 2).map(trace => trace.marker.color.join(';')).join('|')"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder, in which everything that is fetched and made will lie; the public servers are played."""
    place = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_MODELS", str(place / "models"))
        patch.setenv("RECON_LOCK", str(place / "lock.json"))
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(place / "hf" / "hub"))
        build_fake_nsd(place / "public", n_sessions=SESSIONS, formats=("hdf5",))
        server, shelf = serve_nsd(place / "public", SESSIONS, patch), Shelf()
        captions = (place / "public" / fetch_nsd.CAPTIONS).read_bytes()
        put_repository(shelf, fetch_nsd.CAPTIONS_REPO, {fetch_nsd.CAPTIONS: captions}, "datasets")
        serve_models(shelf, write_published(place / "published"), patch)
        yield place
        shelf.shutdown()
        server.stop()


# --- the chain --------------------------------------------------------------------------------------------------------


def run(*arguments: object) -> str:
    """What the command prints on stdout; it must succeed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
    return result.stdout


def stages(place: Path) -> list[tuple]:
    """Commands after `fetch` and `prepare`."""
    at = ("--subject", 1, "--folder", place / "prepared")
    features = [("features", *at, "--target", target) for target in TARGETS]
    return [*features, ("fit", *at), ("encode", *at), ("bundle", *at, "--out", place / "bundle")]


@pytest.fixture(scope="module")
def chain(place):
    """The folder after all commands; `printed.json` holds what the last six of them printed."""
    run("fetch", "nsd", "--sessions", SESSIONS, "--root", place / "nsd", "--accept-terms")
    run("fetch", "models")
    where = ("--nsd", place / "nsd", "--out", place / "prepared")
    run("prepare", "--subject", 1, "--sessions", SESSIONS, *where)
    save_json(place / "printed.json", [json.loads(run(*stage)) for stage in stages(place)])
    return place


def test_every_stage_prints_a_summary_and_does_nothing_the_second_time(chain):
    first = load_json(chain / "printed.json")
    assert not any(report["already finished"] for report in first)
    before = {path: path.stat().st_mtime_ns for path in chain.rglob("*")}
    again = [json.loads(run(*stage)) for stage in stages(chain)]
    assert all(report["already finished"] for report in again)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    n = np.load(chain / "prepared" / "train_ids.npy").size
    assert first[0]["shapes"]["latents_train.npy"] == [n, N_LATENTS]
    assert first[1]["shapes"]["prompt_train.npy"] == [n, TOKENS * WIDTH]
    assert first[2]["shapes"]["image_train.npy"] == [n, EMBEDDING]


def test_a_stage_whose_input_is_missing_names_the_command_that_makes_it(chain, tmp_path):
    for stage, missing in (
        (("features", "--target", "vdvae"), "train_64.npy is missing: make it with `python -m precompute prepare"),
        (("fit",), "train_voxels.npy is missing: make it with `python -m precompute prepare"),
        (("encode",), "train_64.npy is missing: make it with `python -m precompute prepare"),
        (("bundle",), "train.json is missing: make it with `python -m precompute prepare"),
    ):
        result = CliRunner().invoke(app, [*stage, "--subject", "1", "--folder", str(tmp_path)])
        assert result.exit_code == 1 and missing in result.stderr and result.stderr.count("\n") == 1
    (tmp_path / "train_voxels.npy").symlink_to(chain / "prepared" / "train_voxels.npy")
    result = CliRunner().invoke(app, ["fit", "--subject", "1", "--folder", str(tmp_path)])
    assert "latents_train.npy is missing: make it with `python -m precompute features --target vdvae" in result.stderr


def test_finished_features_of_another_dtype_are_refused(chain):
    wanted = ["--subject", "1", "--target", "clip-vision", "--dtype", "float16", "--folder", str(chain / "prepared")]
    result = CliRunner().invoke(app, ["features", *wanted])
    assert result.exit_code == 1 and "holds float32, float16 is asked for" in result.stderr


def test_a_bundle_is_not_made_of_regressors_of_other_features(chain, tmp_path):
    for path in (chain / "prepared").iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "prompt_train.npy").unlink()
    np.save(tmp_path / "prompt_train.npy", np.load(chain / "prepared" / "prompt_train.npy")[::-1])
    where = ["--folder", str(tmp_path), "--out", str(tmp_path / "bundle")]
    result = CliRunner().invoke(app, ["bundle", "--subject", "1", *where])
    assert (
        result.exit_code == 1 and "prompt_train.npy were made anew since they were fitted: run `fit`" in result.stderr
    )
    assert not (tmp_path / "bundle").exists()


DAMAGES = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "its first bytes lost": lambda content: bytes(16) + content[16:],
}
READERS = {  # an intermediate -> the command that reads it
    "train_voxels.npy": "fit",
    "latents_train.npy": "fit",
    "image_test.npy": "encode",
    "train_64.npy": "encode",
    "subject.h5": "encode",
    "train.json": "bundle",
    "latents_fit.json": "bundle",
    "image_train.npy": "bundle",
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_intermediate_ends_a_command_in_one_sentence_that_names_it(chain, tmp_path, name, damage):
    prepared = tmp_path / "prepared"
    shutil.copytree(chain / "prepared", prepared, copy_function=os.link)
    content = (prepared / name).read_bytes()
    (prepared / name).unlink()
    (prepared / name).write_bytes(DAMAGES[damage](content))
    where = ["--subject", "1", "--folder", str(prepared)]
    out = ["--out", str(tmp_path / "bundle")] if READERS[name] == "bundle" else []
    result = CliRunner().invoke(app, [READERS[name], *where, *out])
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.exception
    said = result.stderr.strip().splitlines()[-1]
    assert name in said and "Traceback" not in result.stderr
    assert not (tmp_path / "bundle" / "manifest.json").exists()


def test_the_bundle_opens_with_the_published_decoders_and_both_stages_stream(chain):
    bundle = load_bundle(chain / "bundle")
    assert bundle.manifest["decoders"] == "published" and bundle.absent == {}
    assert isinstance(bundle.subject.geometry, Volume) and not bundle.subject.simulated
    assert len(bundle.vdvae.layer_shapes()) == 75 and bundle.vdvae.n_latents(bundle.n_layers) == N_LATENTS
    response, image = bundle.subject.test.response(0), np.load(chain / "prepared" / "test_64.npy")[0]
    frames = list(reconstruct(response, bundle, Settings(lcm=LCMSettings(steps=2)), shown=Shown(image, ["a"])))
    layouts, frames = ([frame for frame in frames if frame.stage == stage] for stage in ("vdvae", "lcm"))
    assert [frame.step for frame in layouts] == [4, 32, 32] and layouts[-1].last
    assert {picture.shape for frame in layouts for picture in frame.images.values()} == {(64, 64, 3)}
    assert set(layouts[-1].images) == {"ridge", "mlp", "ceiling"}
    assert [frame.images["lcm"].shape for frame in frames] == [(192, 192, 3), (SIDE, SIDE, 3)]
    assert all(frame.images["lcm"].std() > 0 for frame in frames)


def test_an_evaluation_becomes_a_part_of_the_bundle_and_goes_when_other_parts_come(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "component_counts", lambda rank: [rank])
    monkeypatch.setattr(summary, "GROUP", 1)
    bundle = shutil.copytree(chain / "bundle", tmp_path / "bundle")
    where = ("--subject", 1, "--folder", chain / "prepared")
    printed = json.loads(run("evaluate", *where, "--bundle", bundle, "--limit", 2, "--seeds", 1))
    load_bundle(bundle)
    found = load_evaluation(bundle)
    assert found.n_images == printed["n"] == 2 and not found.simulated and found.not_computed["swav"]
    lite0 = {"lite0", "lite0_distance"} if is_installed() else set()
    assert {r.metric for r in found.rows} == {"pixcorr", "ssim", "ssim_legacy", "pixels", "clip"} | lite0
    assert {(r.stage, r.source) for r in found.rows} >= {("vdvae", "ceiling"), ("lcm", "oracle"), ("lcm", "shuffled")}
    assert json.loads(run("bundle", *where, "--out", bundle))["already finished"]
    assert load_evaluation(bundle).rows == found.rows
    (bundle / "voxel_scores.h5").unlink()
    assert not json.loads(run("bundle", *where, "--out", bundle))["already finished"]
    load_bundle(bundle)
    assert not is_evaluated(read_manifest(bundle))


# --- Brain-Diffuser's recipe ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(chain):
    """A subject prepared as Brain-Diffuser's, in `theirs`, and its bundle, in `theirs-bundle`."""
    at, recipe = ("--subject", 1, "--folder", chain / "theirs"), ("--recipe", "brain-diffuser")
    run("prepare", "--subject", 1, "--sessions", SESSIONS, "--nsd", chain / "nsd", "--out", chain / "theirs", *recipe)
    for target in (*TARGETS, "vdvae-samples"):
        run("features", *at, "--target", target)
    run("fit", *at, *recipe)
    run("encode", *at)
    run("bundle", *at, "--out", chain / "theirs-bundle")
    return chain


def test_the_published_recipe_is_theirs_from_images_to_layouts(published):
    """`vdvae_extract_features.py`, `vdvae_regression.py` and `vdvae_reconstruct_images.py`, in scikit-learn, Pillow and numpy."""
    folder, bundle = published / "theirs", load_bundle(published / "theirs-bundle")
    ids = np.load(folder / "train_ids.npy")
    with h5py.File(next((published / "nsd").rglob("nsd_stimuli.hdf5"))) as f:
        small = [Image.fromarray(f["imgBrick"][k]).resize((64, 64), Image.Resampling.BILINEAR) for k in ids[:9]]
    assert (np.load(folder / "train_64.npy")[:9] == np.stack([np.asarray(image) for image in small])).all()
    latents = np.load(folder / "samples_train.npy")
    seeded = load_openai(locate("vdvae")).encode(np.stack([np.asarray(image) for image in small[:2]]), 31, seeds=[0, 1])
    assert np.abs(latents[:2] - seeded).max() < 1e-3 * np.abs(seeded).max()
    assert np.abs(latents - np.load(folder / "latents_train.npy")).mean() > 0.1  # not the posterior's means
    assert (bundle.subject.test.n_trials == np.load(folder / "test_repeats.npy")).all()
    train, test = np.load(folder / "train_voxels.npy"), bundle.subject.test.averaged()
    mean, sd = train.mean(0), train.std(0, ddof=1)
    theirs = (
        Ridge(alpha=50000, max_iter=10000, fit_intercept=True)
        .fit((train - mean) / sd, latents)
        .predict((test - mean) / sd)
    )
    standardised = (theirs - theirs.mean(0)) / theirs.std(0)
    theirs = standardised * latents.std(0) + latents.mean(0)
    ours = decoded("latents", test, bundle, "ridge")
    assert np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(theirs - latents.mean(0))
    layouts = decode_layouts(ours[:2], bundle)
    assert (layouts == bundle.vdvae.decode(ours[:2], Drawing(1.0, sample=True), [0, 1])).all()
    (first, *_) = reconstruct(test[0], bundle, Settings("ridge"))
    assert (first.images["ridge"] == layouts[0]).all() or first.step < 32


def test_what_is_transductive_is_said_of_the_bundle_and_its_evaluation_is_against_samples(published):
    bundle = published / "theirs-bundle"
    said = run("check", "bundle", bundle)
    assert "recipe: stage 1 is that of brain-diffuser, and the latents of ridge are transductive" in said
    assert "of the latents of ridge are at the cap" not in said
    assert "transductive" in header(read_manifest(bundle), {})
    assert "transductive" not in header(read_manifest(published / "bundle"), {})
    for folder, name, latents in (("theirs", "theirs-bundle", "samples"), ("prepared", "bundle", "latents")):
        stage = evaluate_stage(published / folder, published / name, evaluate.Options())
        assert published / folder / f"{latents}_test.npy" in stage.inputs


def test_the_published_recipe_wants_voxels_and_images_prepared_as_theirs(chain):
    result = CliRunner().invoke(
        app, ["fit", "--subject", "1", "--folder", str(chain / "prepared"), "--recipe", "brain-diffuser"]
    )
    assert (
        result.exit_code == 1 and "prepared by the recipe 'session'" in result.stderr and result.stderr.count("\n") == 1
    )


# --- an imported subject ----------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_an_imported_subject_takes_the_same_road_to_an_evaluated_bundle(chain, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "component_counts", lambda rank: [rank])
    monkeypatch.setattr(summary, "GROUP", 1)
    lab, folder, bundle = write_lab(tmp_path / "amy", make_lab(rng)), tmp_path / "prepared", tmp_path / "bundle"
    run("import", "arrays", lab, "--out", folder)
    at = ("--subject", "amy", "--folder", folder)
    for target in TARGETS:
        run("features", *at, "--target", target)
    run("fit", *at)
    run("encode", *at)
    run("bundle", *at, "--out", bundle)
    printed = json.loads(run("evaluate", *at, "--bundle", bundle, "--limit", 2, "--seeds", 1))
    assert printed["subject"] == "amy" and printed["n"] == 2
    found = load_evaluation(bundle)
    assert not found.simulated and found.protocol["name"] == "own" and found.rois == []
    assert {row.n for row in found.rows} == {2} and load_bundle(bundle).subject.name == "amy"
    result = CliRunner().invoke(app, ["evaluate", *map(str, at), "--bundle", str(bundle), "--protocol", "mindeye"])
    assert (
        result.exit_code == 1
        and "make it with `python -m precompute prepare --sessions 40 --subject N`" in result.stderr
    )


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(chain, tmp_path_factory):
    """The bundle's page, opened in Chromium, with the fetched models and without any."""

    folders = chain, tmp_path_factory.mktemp("empty")
    environments = [
        {"RECON_MODELS": f"{at}/models", "RECON_LOCK": f"{at}/lock.json", "HF_HOME": f"{at}/hf", "HF_HUB_OFFLINE": "1"}
        | {"RECON_BUNDLE": f"{chain}/bundle"}
        for at in folders
    ]
    with open_browser() as browser, serve_apps(*environments) as urls:
        yield [open_page(browser, url) for url in urls]


def open_page(browser, url: str):
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.errors = []
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector('[data-last="true"]', timeout=60 * SECONDS)
    page.wait_for_selector('.brain[data-ready="true"]', timeout=60 * SECONDS)
    return page


def check_what_needs_no_decoder(page, place: Path) -> None:
    """Original, captions and brain maps, of the first picture and of another; nobody is called simulated."""
    assert "imulated" not in page.inner_text("body")
    n_voxels = np.load(place / "prepared" / "train_voxels.npy", mmap_mode="r").shape[1]
    page.click(".brain-shapes [data-name=centres]")
    page.wait_for_selector(".brain[data-shape=centres]")
    centres = "document.querySelector('.brain-plot').data.slice(0, 2).reduce((n, t) => n + t.x.length, 0)"
    assert page.evaluate(centres) == n_voxels
    maps = set()
    for name in ("r2", "ceiling", "ratio", "areas", "response"):
        page.select_option(".brain-map", name)
        page.wait_for_selector(f".brain[data-map={name}]")
        maps.add(page.evaluate(BRAIN))
    assert len(maps) == 5, "two brain maps look the same"
    before = page.evaluate(BRAIN)
    check_words(page, place, 0)
    page.click('.thumb[data-index="1"]')
    page.wait_for_selector('[data-last="true"][data-index="1"]', timeout=60 * SECONDS)
    page.wait_for_function(f"before => {BRAIN} !== before", arg=before)
    check_words(page, place, 1)


def check_words(page, place: Path, index: int) -> None:
    labels = load_json(place / "prepared" / "test.json")
    training = {e["captions"][0] for e in load_json(place / "prepared" / "train.json")}
    assert labels[index]["captions"][0] in page.inner_text(".truth")
    assert page.inner_text(".decoded").split("“")[1].split("”")[0] in training
    assert page.evaluate("document.querySelector('.card.original img').naturalWidth") == 256


def side(page, card: str) -> int:
    return page.evaluate(f"document.querySelector('.card.{card} img')?.naturalWidth ?? 0")


def test_the_page_shows_both_stages_and_the_voxels_of_the_volume(chain, pages, tmp_path):
    page, _ = pages
    assert {card: side(page, card) for card in CARDS} == {"ridge": 64, "mlp": 64, "ceiling": 64, "lcm": SIDE}
    assert page.locator(".banner").count() == 0
    check_what_needs_no_decoder(page, chain)
    assert page.text_content(".progress p:nth-child(2) b").endswith("4 UNet steps")
    page.screenshot(path=os.environ.get("SCREENSHOT_NSD", tmp_path / "page.png"))
    assert page.errors == []


def test_without_models_the_page_says_how_to_fetch_them_and_shows_the_rest(chain, pages, tmp_path):
    _, page = pages
    assert "No decoder for stage 1 and stage 2: run python -m precompute fetch models" in page.inner_text(".banner")
    assert {card: side(page, card) for card in CARDS} == dict.fromkeys(CARDS, 0)
    check_what_needs_no_decoder(page, chain)
    assert page.text_content(".progress").count("no decoder") == 2
    page.screenshot(path=os.environ.get("SCREENSHOT_NO_MODELS", tmp_path / "page.png"))
    page.click(".banner summary")
    assert "Lykon/dreamshaper-7" in page.inner_text(".banner")
    assert page.errors == []
