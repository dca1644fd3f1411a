"""How commands fail: in one sentence, with exit code 1."""

import errno
import os

import pytest
import typer

from precompute.terminal import failing_in_one_sentence
from recon.files import BadFile, save_json


def told(act, capsys) -> str:
    with pytest.raises(typer.Exit) as ended, failing_in_one_sentence():
        act()
    assert ended.value.exit_code == 1
    return capsys.readouterr().err


def raising(code: int):
    def act():
        raise OSError(code, os.strerror(code), "out/file.npy")

    return act


def test_a_file_where_a_folder_is_expected_is_told(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    said = told(lambda: save_json(tmp_path / "taken" / "record.json", {}), capsys)
    assert str(tmp_path / "taken") in said and "choose another name, or remove the file" in said
    assert said.count("\n") == 1


def test_a_folder_where_a_file_is_expected_is_told(tmp_path, capsys):
    said = told(lambda: open(tmp_path), capsys)
    assert "Is a directory" in said and "remove the folder" in said


@pytest.mark.parametrize(
    "code, advice",
    [
        (errno.ENOSPC, "make room"),
        (errno.EACCES, "choose another folder"),
        (errno.EROFS, "choose another folder"),
        (errno.EIO, "Run the same command again"),
    ],
)
def test_what_the_file_system_refuses_is_told_with_the_file_and_what_to_do(code, advice, capsys):
    said = told(raising(code), capsys)
    assert said.startswith(f"out/file.npy: {os.strerror(code)}. ") and advice in said and said.count("\n") == 1


def test_a_bad_file_is_told_and_another_error_is_not_hidden(capsys):
    def bad():
        raise BadFile("x.npy is damaged: make it again")

    assert told(bad, capsys) == "x.npy is damaged: make it again\n"
    with pytest.raises(ZeroDivisionError), failing_in_one_sentence():
        1 / 0  # noqa: B018
