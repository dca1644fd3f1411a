"""The encoding stage does nothing the second time, begins anew when its inputs do, and learns nothing of the test set."""

from dataclasses import replace

import numpy as np

from precompute.fitting import encode as module
from precompute.fitting.encode import Encoding, encode, encode_stage
from precompute.stage import make
from recon.brain.voxel_scores import load_scores
from recon.bundle.subject import load_subject, save_subject

KINDS = ("images", "latents", "embeddings")


def test_scores_are_made_again_when_their_inputs_are(rng, tiny_bundle, tmp_path):
    for split, n in (("train", 40), ("test", 5)):
        np.save(tmp_path / f"images_{split}.npy", rng.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8))
        for kind, width in (("latents", 12), ("embeddings", 5)):
            np.save(tmp_path / f"{kind}_{split}.npy", rng.normal(size=(n, width)).astype(np.float32))
    np.save(tmp_path / "voxels.npy", rng.normal(size=(40, 7)).astype(np.float32))
    files = [{s: tmp_path / f"{kind}_{s}.npy" for s in ("train", "test")} for kind in KINDS]

    def run():
        return make(encode_stage(Encoding(*files, tmp_path / "voxels.npy", tiny_bundle / "subject.h5"), tmp_path))

    assert [run()["already finished"] for _ in range(2)] == [False, True]
    before = load_scores(tmp_path / "voxel_scores.h5").r2
    np.save(tmp_path / "voxels.npy", rng.normal(size=(40, 7)).astype(np.float32))
    assert [run()["already finished"] for _ in range(2)] == [False, True]
    assert not np.array_equal(load_scores(tmp_path / "voxel_scores.h5").r2, before)


def test_other_test_pictures_and_responses_leave_the_encoding_model_as_it_was(rng, tiny_bundle, tmp_path, monkeypatch):
    models, fit_encoding = [], module.fit_encoding
    monkeypatch.setattr(module, "fit_encoding", lambda *a: models.append(fit_encoding(*a)) or models[-1])
    subject = load_subject(tiny_bundle / "subject.h5")
    rolled = replace(subject, test=replace(subject.test, voxels=np.roll(subject.test.voxels, 1, 2)))
    save_subject(tmp_path / "rolled.h5", rolled)
    np.save(tmp_path / "voxels.npy", rng.normal(size=(40, 7)).astype(np.float32))
    images = rng.integers(0, 256, (50, 64, 64, 3), dtype=np.uint8)
    latents, embeddings = (rng.normal(size=(50, width)).astype(np.float32) for width in (12, 5))
    for kind, values in zip(KINDS, (images, latents, embeddings)):
        for split, rows in (("train", slice(40)), ("one", slice(40, 45)), ("other", slice(45, 50))):
            np.save(tmp_path / f"{kind}_{split}.npy", values[rows])
    for name, person in (("one", tiny_bundle / "subject.h5"), ("other", tmp_path / "rolled.h5")):
        files = [{"train": tmp_path / f"{kind}_train.npy", "test": tmp_path / f"{kind}_{name}.npy"} for kind in KINDS]
        (tmp_path / name).mkdir()
        encode(Encoding(*files, tmp_path / "voxels.npy", person), tmp_path / name)
    for name in ("weights", "intercept", "alpha"):
        assert getattr(models[0], name).tobytes() == getattr(models[1], name).tobytes(), name
    r2 = [load_scores(tmp_path / name / "voxel_scores.h5").r2 for name in ("one", "other")]
    assert not np.array_equal(*r2)


def test_image_embeddings_explain_voxels_that_nothing_else_does(rng, tiny_bundle, tmp_path):
    person, n = load_subject(tiny_bundle / "subject.h5"), 150
    test = person.test.averaged()
    meaning = {"train": rng.normal(size=(n, 3)).astype(np.float32), "test": rng.normal(size=(len(test), 3))}
    tuning = rng.normal(size=(3, test.shape[1]))
    repeated = np.repeat((meaning["test"] @ tuning)[:, None], person.test.voxels.shape[1], 1).astype(np.float32)
    known = np.isnan(person.test.voxels)
    trials = replace(person.test, voxels=np.where(known, np.nan, repeated).astype(np.float32))
    save_subject(tmp_path / "meaning.h5", replace(person, test=trials))
    np.save(tmp_path / "voxels.npy", (meaning["train"] @ tuning).astype(np.float32))
    for split, rows in (("train", n), ("test", len(test))):
        np.save(tmp_path / f"images_{split}.npy", rng.integers(0, 256, (rows, 64, 64, 3), dtype=np.uint8))
        np.save(tmp_path / f"latents_{split}.npy", rng.normal(size=(rows, 12)).astype(np.float32))
        np.save(tmp_path / f"embeddings_{split}.npy", meaning[split].astype(np.float32))
    files = [{s: tmp_path / f"{kind}_{s}.npy" for s in ("train", "test")} for kind in KINDS]
    encode(Encoding(*files, tmp_path / "voxels.npy", tmp_path / "meaning.h5"), tmp_path)
    assert np.median(load_scores(tmp_path / "voxel_scores.h5").r2) > 0.8
