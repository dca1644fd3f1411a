"""A bundle opens whole or is refused with one sentence that says what to do."""

import json

import numpy as np
import pytest
from conftest import write_tiny_bundle

from recon.bundle.bundle import load_bundle
from recon.bundle.captions import CaptionIndex
from recon.bundle.manifest import write_manifest
from recon.bundle.subject import Subject, Trials, encode_betas, load_subject, save_subject
from recon.files import BadFile


def edit_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_whole_bundle_opens(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    assert bundle.subject.name == "tiny" and bundle.n_layers == 4
    assert set(bundle.regressors) == {"latents", "prompt", "image"}
    assert all(set(kinds) == {"ridge", "mlp"} for kinds in bundle.regressors.values())


def test_a_missing_bundle_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(BadFile, match="no bundle at .*python -m precompute demo"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name",
    [
        "subject.h5",
        "vdvae.safetensors",
        "latents_ridge.safetensors",
        "image_mlp.safetensors",
        "captions.h5",
        "lcm_lora.safetensors",
        "diffusion/unet/diffusion_pytorch_model.safetensors",
    ],
)
def test_a_truncated_file_is_named_with_both_sizes(tiny_bundle, name):
    whole = (tiny_bundle / name).read_bytes()
    (tiny_bundle / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFile, match=f"{name} should have {len(whole)} bytes, it has {len(whole) // 2}"):
        load_bundle(tiny_bundle)


def test_a_changed_file_of_the_same_size_is_refused(tiny_bundle):
    path = tiny_bundle / "prompt_ridge.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(BadFile, match=r"content of prompt_ridge\.safetensors"):
        load_bundle(tiny_bundle)


def test_a_missing_file_is_named(tiny_bundle):
    (tiny_bundle / "voxel_scores.h5").unlink()
    with pytest.raises(BadFile, match=r"lacks voxel_scores\.h5"):
        load_bundle(tiny_bundle)


def test_another_version_is_refused(tiny_bundle):
    edit_manifest(tiny_bundle, version=99)
    with pytest.raises(BadFile, match="expected format 'recon-bundle' version 4, got 'recon-bundle' version 99"):
        load_bundle(tiny_bundle)


def test_a_manifest_that_is_not_json_or_not_complete_is_refused(tiny_bundle):
    path = tiny_bundle / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text("{")
    with pytest.raises(BadFile, match="not valid JSON"):
        load_bundle(tiny_bundle)
    del content["n_layers"]
    path.write_text(json.dumps(content))
    with pytest.raises(BadFile, match="incomplete"):
        load_bundle(tiny_bundle)


def test_weights_fitted_to_another_voxel_count_are_refused(tmp_path):
    folder = write_tiny_bundle(tmp_path / "b", n_voxels=7, fitted_voxels=8)
    with pytest.raises(BadFile, match="subject has 7 voxels .* latents_ridge was fitted to 8 voxels"):
        load_bundle(folder)


def test_weights_for_another_number_of_layers_are_refused(tiny_bundle):
    content = json.loads((tiny_bundle / "manifest.json").read_text())
    write_manifest(tiny_bundle, content | {"n_layers": 3})
    edit_manifest(tiny_bundle, n_layers=3)
    with pytest.raises(BadFile, match="162 latents numbers, but latents_ridge was fitted to 7 voxels and 290 numbers"):
        load_bundle(tiny_bundle)


def test_regressors_to_another_prompt_embedding_are_refused(tiny_bundle):
    parts = json.loads((tiny_bundle / "manifest.json").read_text())
    (tiny_bundle / "prompt_mlp.safetensors").write_bytes((tiny_bundle / "image_mlp.safetensors").read_bytes())
    write_manifest(tiny_bundle, parts)
    with pytest.raises(BadFile, match="take 160 prompt numbers, but prompt_mlp was fitted to 7 voxels and 6 numbers"):
        load_bundle(tiny_bundle).diffusion  # noqa: B018


def test_a_damaged_caption_index_is_told(tmp_path):
    path = tmp_path / "captions.h5"
    with pytest.raises(BadFile, match="not a readable caption index"):
        CaptionIndex.load(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(BadFile, match="not a readable caption index"):
        CaptionIndex.load(path)
    CaptionIndex(["a", "b"], np.eye(3, dtype=np.float32)).save(path)
    with pytest.raises(BadFile, match="2 captions, but 3 embeddings"):
        CaptionIndex.load(path)


def test_a_test_index_out_of_range_says_which_there_are(tiny_bundle):
    test = load_bundle(tiny_bundle).subject.test
    for index in (-1, 5):
        with pytest.raises(IndexError, match=f"test image {index} does not exist: this subject has images 0 to 4"):
            test.response(index)


def test_a_subject_survives_the_disk(tiny_bundle, tmp_path):
    subject = load_subject(tiny_bundle / "subject.h5")
    save_subject(tmp_path / "again.h5", subject)
    again = load_subject(tmp_path / "again.h5")
    np.testing.assert_array_equal(again.test.voxels, subject.test.voxels)
    np.testing.assert_array_equal(again.test.images, subject.test.images)
    assert again.test.labels == subject.test.labels and again.geometry.mesh == subject.geometry.mesh


def test_missing_repeats_stay_missing_and_do_not_enter_the_average(tiny_bundle):
    test = load_subject(tiny_bundle / "subject.h5").test
    assert test.n_repeats.tolist() == [2, 3, 3, 3, 3]
    assert np.isnan(test.voxels[0, 2]).all()
    np.testing.assert_allclose(test.averaged()[0], test.voxels[0, :2].mean(0), rtol=1e-5)
    np.testing.assert_allclose(test.response(0), test.averaged()[0])


def test_betas_that_do_not_fit_int16_are_refused_not_clipped():
    with pytest.raises(ValueError, match="110.0 does not fit"):
        encode_betas(np.array([110.0]))


def test_masks_of_another_length_are_refused(tiny_bundle, tmp_path):
    subject = load_subject(tiny_bundle / "subject.h5")
    wrong = Trials(subject.test.voxels[:, :, :5], subject.test.images, subject.test.labels)
    save_subject(tmp_path / "bad.h5", Subject("x", True, subject.geometry, subject.ncsnr, wrong))
    with pytest.raises(BadFile, match="voxel counts disagree.*'betas': 5"):
        load_subject(tmp_path / "bad.h5")
