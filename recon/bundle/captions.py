"""Captions of training pictures, found by where CLIP puts their pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from recon.files import BadFile, array_in, brief, whole_file

FORMAT = "recon-captions-1"


@dataclass(frozen=True)
class CaptionIndex:
    """Captions of training pictures, found by the place of their picture in CLIP's embedding space."""

    captions: list[str]  # one of each picture
    embeddings: np.ndarray  # (n, d) float32, of the pictures
    test_embeddings: np.ndarray | None = None  # (n_test, d) float32, of the test pictures: for ranks alone

    def nearest(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decoded image embeddings (n, d) -> rows of the most similar training pictures, and the cosines, (n,) both.

        Cosines are taken about the mean training embedding: what all pictures share says nothing.
        """
        similarity = self._cosines(embeddings, self.embeddings)
        rows = similarity.argmax(1)
        return rows, similarity[np.arange(len(rows)), rows]

    def rank(self, embedding: np.ndarray, index: int) -> float:
        """Where test picture `index` stands, from 1, among all by the likeness of its embedding to a decoded one, (d,).

        By the same cosines; ties count half. Chance: (n_test + 1) / 2. Needs `test_embeddings`.
        """
        similarity = self._cosines(embedding[None], self.test_embeddings)[0]
        own = similarity[index]
        return 1 + float((similarity > own).sum() + 0.5 * ((similarity == own).sum() - 1))

    def _cosines(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """(n, d), (m, d) -> (n, m)."""
        centre = self.embeddings.mean(0)
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a - centre, b - centre))
        return a @ b.T

    def save(self, path: Path) -> None:
        """HDF5; embeddings in float16."""
        with whole_file(path) as part, h5py.File(part, "w") as f:
            f.attrs["format"] = FORMAT
            f.create_dataset("embeddings", data=self.embeddings.astype(np.float16))
            if self.test_embeddings is not None:
                f.create_dataset("test_embeddings", data=self.test_embeddings.astype(np.float16))
            text = np.frombuffer(json.dumps(self.captions).encode(), np.uint8)
            f.create_dataset("captions", data=text, compression="gzip")

    @classmethod
    def load(cls, path: Path) -> CaptionIndex:
        """Raises BadFile if the file is missing, damaged or holds something else."""
        try:
            with h5py.File(path, "r") as f:
                if f.attrs.get("format") != FORMAT:
                    raise BadFile(f"{path}: expected format {FORMAT!r}, got {f.attrs.get('format')!r}")
                captions = json.loads(array_in(f, "captions").tobytes())
                embeddings = array_in(f, "embeddings").astype(np.float32)
                test = array_in(f, "test_embeddings").astype(np.float32) if "test_embeddings" in f else None
                if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
                    raise ValueError("captions are not a list of strings")
        except BadFile:
            raise
        except Exception as error:  # h5py and json raise many kinds for damaged files
            raise BadFile(f"{path} is not a readable caption index (missing or damaged?): {brief(error)}") from error
        if len(captions) != len(embeddings):
            raise BadFile(f"{path}: {len(captions)} captions, but {len(embeddings)} embeddings")
        if test is not None and test.shape[1:] != embeddings.shape[1:]:
            raise BadFile(f"{path}: embeddings of {embeddings.shape[1:]}, but of {test.shape[1:]} for test pictures")
        return cls(captions, embeddings, test)
