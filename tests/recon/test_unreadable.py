"""Why a file cannot be read is told apart; deleting it is advised where its content is wrong, and nowhere else."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import typer
from safetensors.numpy import save_file

from precompute.nsd.volumes import damaged, read_volume
from precompute.terminal import failing_in_one_sentence
from recon.files import BadFile, open_h5, open_plain, parsing, read_tensors
from recon.unreadable import unreadable

ROOT = Path(__file__).parents[2]
CONTENT = "it is damaged: delete it and fetch it again"


@pytest.mark.parametrize("number, words", [
    (errno.EACCES, "may not be used by this user: ask its owner"),
    (errno.EPERM, "may not be used by this user"),
    (errno.EAGAIN, "is held by another program: wait for it, or close it"),
    (errno.EBUSY, "is held by another program"),
    (errno.ETXTBSY, "is held by another program"),
    (errno.ENOLCK, "set HDF5_USE_FILE_LOCKING=FALSE"),
    (errno.EOPNOTSUPP, "set HDF5_USE_FILE_LOCKING=FALSE"),
    (errno.ENOSYS, "set HDF5_USE_FILE_LOCKING=FALSE"),
    (errno.ENOENT, "is missing"),
    (errno.EISDIR, "is a folder, expected a file"),
    (errno.EIO, "cannot be read now (Input/output error)"),
    (errno.ESTALE, "cannot be read now (Stale file handle)"),
    (errno.EMFILE, "cannot be read now (Too many open files)"),
    (errno.ENOTCONN, "cannot be read now"),
    (errno.ETIMEDOUT, "cannot be read now"),
])  # fmt: skip
@pytest.mark.parametrize("form", ["an error with a number", "HDF5's words", "another error's cause"])
def test_errors_of_the_system_are_named_and_never_end_in_deleting(tmp_path, number, words, form):
    path = tmp_path / "mine.h5"
    path.write_bytes(b"x")
    error = OSError(number, os.strerror(number))
    if form == "HDF5's words":
        error = OSError(f"Unable to open file (unable to lock file, errno = {number}, error message = '…')")
    if form == "another error's cause":
        error, cause = RuntimeError("it did not work"), error
        error.__cause__ = cause
    told = str(unreadable(path, error, CONTENT))
    assert words in told and str(path) in told
    assert "delete" not in told and "damaged" not in told and "\n" not in told


@pytest.mark.parametrize(
    "error", [OSError("file signature not found"), ValueError("bad magic"), EOFError("ends early"), KeyError("x")]
)
def test_wrong_content_is_called_so(tmp_path, error):
    (tmp_path / "mine").write_bytes(b"x")
    assert str(unreadable(tmp_path / "mine", error, CONTENT)) == CONTENT


def test_too_little_memory_is_no_damage(tmp_path):
    with pytest.raises(BadFile, match="needs more memory than there is") as told:
        with parsing(tmp_path / "x"):
            raise MemoryError
    assert "damaged" not in str(told.value)


HOLD = "import h5py, sys, time; f = h5py.File(sys.argv[1], 'a'); print('held', flush=True); time.sleep(60)"
SWMR = "import h5py, sys, os; f = h5py.File(sys.argv[1], 'w', libver='latest'); f['x'] = [1]; f.swmr_mode = True; os._exit(0)"


def test_a_file_that_another_program_writes_is_said_to_be_held(tmp_path):
    path = tmp_path / "subject.h5"
    with h5py.File(path, "w") as f:
        f["x"] = [1]
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        with pytest.raises(BadFile, match="is held by another program: wait for it"):
            open_h5(path, "any", 1)
        other.kill()


def test_a_file_whose_writer_died_is_said_to_be_so(tmp_path):
    subprocess.run([sys.executable, "-c", SWMR, tmp_path / "died.h5"], check=True)
    with pytest.raises(BadFile, match="or that died: wait, or run `h5clear -s"):
        open_h5(tmp_path / "died.h5", "any", 1)


def test_a_filter_that_is_not_installed_is_named():
    path = ROOT / "tests" / "data" / "filter_absent.h5"
    with pytest.raises(BadFile, match=r"HDF5 filter 32015 \(zstd\), which is not installed here"):
        with parsing(path), h5py.File(path) as f:
            f["betas"][()]


FILES = {
    "a.h5": lambda path: h5py.File(path, "w").close(),
    "a.npy": lambda path: np.save(path, np.zeros(3)),
    "a.safetensors": lambda path: save_file({"a": np.zeros(3)}, path),
    "a.nii.gz": lambda path: path.write_bytes(b"x"),
}
READ = {
    "a.h5": lambda path: open_h5(path, "any", 1),
    "a.npy": open_plain,
    "a.safetensors": lambda path: read_tensors(path, "any"),
    "a.nii.gz": read_volume,
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("name", FILES)
def test_files_without_rights_are_said_to_be_without_rights(tmp_path, name):
    path = tmp_path / name
    FILES[name](path)
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o755) if folder.name.startswith(
            ("pytest-", "popen-")
        ) or folder == tmp_path else None
    child = os.fork()
    if not child:
        os.setuid(65534)
        try:
            READ[name](path)
        except BadFile as error:
            os._exit(0 if "may not be used by this user" in str(error) and "delete" not in str(error).lower() else 1)
        finally:
            os._exit(2)  # whatever else came: the child must not go on with the tests
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_raw_file_of_wrong_content_is_to_be_fetched_again(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no volume")
    with pytest.raises(BadFile, match="truncated or damaged\\? Delete it and fetch it again"):
        read_volume(tmp_path / "a.nii.gz")
    assert "Delete" not in str(damaged(tmp_path / "a.nii.gz", PermissionError(errno.EACCES, "no")))


@pytest.mark.parametrize("error, words", [
    (BadFile("a: expected b, got c"), "a: expected b, got c"),
    (ValueError("expected finite voxels,\n got NaN"), "expected finite voxels, got NaN"),
    (np.linalg.LinAlgError("Singular matrix"), "Singular matrix"),
    (PermissionError(errno.EACCES, "no", "/data/x.npy"), "/data/x.npy: no. This user may not do that there"),
    (OSError(errno.ENOSPC, "No space left on device", "/data/x.npy"), "/data/x.npy: No space left on device. The disk is full"),
])  # fmt: skip
def test_commands_end_in_one_line_whatever_is_wrong_with_data_or_disk(capsys, error, words):
    with pytest.raises(typer.Exit) as ended, failing_in_one_sentence():
        raise error
    told = capsys.readouterr().err
    assert ended.value.exit_code == 1 and words in told and told.count("\n") == 1


def test_commands_do_not_hide_what_is_a_mistake_of_ours():
    with pytest.raises(TypeError), failing_in_one_sentence():
        raise TypeError("a bug")
