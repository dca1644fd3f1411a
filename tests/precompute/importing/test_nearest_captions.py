"""Images without captions get the nearest of a list, by CLIP, and keep those that they have; against both halves of a tiny CLIP."""

import json
import shutil

import numpy as np
import pytest
import torch
from fake_lab import make_lab, write_lab, write_table
from published import write_clip
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer
from typer.testing import CliRunner

from precompute.__main__ import app
from precompute.importing import nearest_captions
from recon.bundle.subject import load_subject
from recon.files import load_json

LIST = [f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in ("boat", "cat", "tree")]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip") / "clip"
    write_clip(folder)
    return folder


def run(folder, *options):
    return CliRunner().invoke(app, ["import", "arrays", str(folder), *map(str, options)])


def nearest_five(clip, image):
    """By the whole model and its own image processor."""
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    pixels = CLIPImageProcessor.from_pretrained(clip)(images=image, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        out = model(**tokenizer(LIST, padding="max_length", truncation=True, return_tensors="pt"), pixel_values=pixels)
    return [LIST[k] for k in torch.argsort(out.logits_per_image[0], descending=True)[:5]]


def test_every_image_gets_the_five_captions_of_the_list_that_are_nearest_to_it(clip, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(nearest_captions, "locate", lambda name: {"clip": clip}[name])
    folder, out, captions = write_lab(tmp_path / "amy", make_lab(rng)), tmp_path / "out", tmp_path / "list.txt"
    captions.write_text("\n".join(["", *LIST, LIST[0], " "]), encoding="utf-8-sig")
    result = run(folder, "--out", out, "--caption-list", captions)
    assert result.exit_code == 0, result.output
    assert "images without captions got the 5 nearest of 9 in list.txt, by CLIP" in result.stdout
    found = 0
    for split in ("train", "test"):
        images = np.load(out / f"{split}_512.npy")
        for label, image in zip(load_json(out / f"{split}.json")[:3], images):
            assert label["captions_from"] == "list.txt" and set(label["captions"]) <= set(LIST)
            found += label["captions"] == nearest_five(clip, image)
    assert found == 6
    assert load_subject(out / "subject.h5").test.labels == load_json(out / "test.json")


def test_another_list_is_another_import_and_one_too_short_is_refused(clip, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(nearest_captions, "locate", lambda name: {"clip": clip}[name])
    folder, out, captions = write_lab(tmp_path / "amy", make_lab(rng)), tmp_path / "out", tmp_path / "list.txt"
    captions.write_text("\n".join(LIST))
    assert run(folder, "--out", out, "--caption-list", captions).exit_code == 0
    assert json.loads(run(folder, "--out", out, "--caption-list", captions).stdout)["already finished"]
    captions.write_text("\n".join(f"a {caption}" for caption in LIST))
    assert not json.loads(run(folder, "--out", out, "--caption-list", captions).stdout)["already finished"]
    assert all(caption.startswith("a ") for label in load_json(out / "train.json") for caption in label["captions"])
    captions.write_text("\n".join(LIST[:4]))
    shutil.rmtree(out)
    result = run(folder, "--out", out, "--caption-list", captions)
    assert result.exit_code == 1 and "expected at least 5 captions, a line each, got 4" in result.stderr
    assert not out.exists()


def test_captions_that_are_there_stay(clip, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(nearest_captions, "locate", lambda name: {"clip": clip}[name])
    lab = make_lab(rng)
    folder, out, captions = write_lab(tmp_path / "amy", lab), tmp_path / "out", tmp_path / "list.txt"
    captions.write_text("\n".join(LIST))
    write_table(folder / "captions.csv", [{"image": name, "caption": f"of {name}"} for name in lab.images])
    assert run(folder, "--out", out, "--caption-list", captions).exit_code == 0
    for label in load_json(out / "train.json"):
        assert label["captions"] == [f"of {label['image'].removesuffix('.png')}"] and "captions_from" not in label
