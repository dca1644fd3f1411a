"""What visitors send is private, deleted once read, and swept whatever ends the page."""

import os
import subprocess
import sys
import time
from pathlib import Path

import gradio as gr
import pytest

from recon.environment import TEMPORARY as FOLDER
from recon.ui.server.received import HOUR, received
from recon.ui.server.startup import claim_folder, release_folder


@pytest.fixture
def claimed(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path / "parent"))
    claim_folder()
    return Path(os.environ[FOLDER])


def test_the_folder_is_private_and_goes_with_what_is_in_it(claimed):
    assert claimed.stat().st_mode & 0o777 == 0o700 and claimed.parent.name == "parent"
    (claimed / "sub").mkdir()
    (claimed / "sub" / "mine.npy").write_bytes(b"x")
    release_folder()
    assert not claimed.exists() and claimed.parent.exists()


def test_what_killed_pages_left_is_deleted_and_nothing_else(claimed):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    parent = claimed.parent
    names = [f"recon-uploads-{gone.pid}-abc", f"recon-uploads-{os.getppid()}-abc", "recon-uploads-mine", "others"]
    for name in names:
        (parent / name).mkdir()
    os.environ[FOLDER] = str(parent)
    claim_folder()
    assert [(parent / name).exists() for name in names] == [False, True, True, True]


@pytest.mark.parametrize("error", [None, ValueError("expected another"), RuntimeError("unforeseen")])
def test_a_file_is_deleted_however_reading_it_ends(claimed, error):
    path = claimed / "mine.npy"
    path.write_bytes(b"x")
    try:
        with received(str(path)) as there:
            assert there.read_bytes() == b"x"
            if error:
                raise error
    except (gr.Error, RuntimeError) as told:
        assert str(error) in str(told)
    assert not path.exists()


def test_what_was_sent_in_part_or_never_read_goes_within_an_hour(claimed):
    for name, age in {"old": HOUR + 60, "new": HOUR - 600, "mine.npy": 0}.items():
        (claimed / name).write_bytes(b"x")
        os.utime(claimed / name, (time.time() - age,) * 2)
    with received(str(claimed / "mine.npy")):
        pass
    assert [p.name for p in claimed.iterdir()] == ["new"]


def test_nothing_chosen_is_one_sentence():
    with pytest.raises(gr.Error, match="Choose a file first"), received(None):
        pass


def test_a_file_that_is_gone_is_asked_for_again(claimed):
    for gone in (claimed / "swept.npy", claimed, Path("/tmp/recon-uploads-1-of-a-page-before/x.png")):
        with pytest.raises(gr.Error, match="choose the file again"), received(str(gone)):
            pytest.fail("there is nothing to read")
