"""The encoding stage does nothing the second time, and begins anew when a file that it read was made anew."""

import numpy as np

from precompute.encode import encode
from recon.encoding import load_scores


def test_scores_are_made_again_when_their_inputs_are(rng, tiny_bundle, tmp_path):
    for split, n in (("train", 40), ("test", 5)):
        np.save(tmp_path / f"images_{split}.npy", rng.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8))
        np.save(tmp_path / f"latents_{split}.npy", rng.normal(size=(n, 12)).astype(np.float32))
    np.save(tmp_path / "voxels.npy", rng.normal(size=(40, 7)).astype(np.float32))
    files = [{s: tmp_path / f"{kind}_{s}.npy" for s in ("train", "test")} for kind in ("images", "latents")]

    def run():
        return encode(*files, tmp_path / "voxels.npy", tiny_bundle / "subject.h5", tmp_path)

    assert [run()["already finished"] for _ in range(2)] == [False, True]
    before = load_scores(tmp_path / "voxel_scores.h5").r2
    np.save(tmp_path / "voxels.npy", rng.normal(size=(40, 7)).astype(np.float32))
    assert [run()["already finished"] for _ in range(2)] == [False, True]
    assert not np.array_equal(load_scores(tmp_path / "voxel_scores.h5").r2, before)
