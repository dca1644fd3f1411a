"""What strangers may read of errors, and that whatever is asked wrongly is refused with one."""

import math

import pytest

from recon.settings import LCMSettings, Settings
from recon.ui.told import in_one_sentence, without_folders

WRONG = (
    None, True, False, "", "4", "x" * 500, [], [1], {}, {"a": 1}, (), b"4", 1j, math.nan, math.inf, -math.inf, -1, -0.5, 1e308,
    10**400, -(10**400), 2**63, 1.5, object(), float, [[]], {1: 2},
)  # fmt: skip
FIELDS = [(LCMSettings, name) for name in ("steps", "guidance", "strength", "seed")]
FIELDS += [(Settings, name) for name in ("regressor", "prompt", "own_prompt", "repeats", "components", "gains")]


@pytest.mark.parametrize("kind, name", FIELDS, ids=[name for _, name in FIELDS])
def test_a_value_of_any_type_is_taken_or_refused_in_one_sentence(kind, name):
    n_refused = 0
    for value in WRONG:
        try:
            hash(kind(**{name: value}))
        except ValueError as error:
            n_refused += 1
            assert len(in_one_sentence(error).message) < 300 and "\n" not in str(error)
    assert n_refused > len(WRONG) / 3


@pytest.mark.parametrize("gain", WRONG)
def test_a_gain_of_any_type_is_taken_or_refused_in_one_sentence(gain):
    try:
        hash(Settings(gains=(("FFA", gain),)))
    except ValueError as error:
        assert "gain of FFA" in str(error)
    else:
        assert 0 <= gain <= 2


@pytest.mark.parametrize(
    "said, shown",
    [
        ("bundle /srv/data/subj01 lacks vdvae.safetensors", "bundle subj01 lacks vdvae.safetensors"),
        ("/home/me/a b/x.h5 is damaged ('/tmp/y/z.npy')", "a b/x.h5 is damaged ('z.npy')"),
        ("use https://example.org/a/b or /reconstruct, 1/2", "use https://example.org/a/b or /reconstruct, 1/2"),
        ("data/bundles/x is relative", "data/bundles/x is relative"),
    ],
)
def test_no_folder_of_this_computer_is_told(said, shown):
    assert without_folders(said) == shown == in_one_sentence(said).message
