"""Settings are refused by name, and only outside their bounds."""

import pytest

from recon.settings import MAX_GUIDANCE, MAX_STEPS, MIN_STRENGTH, LCMSettings


@pytest.mark.parametrize(
    "name, lowest, highest, below, above",
    [
        ("steps", 1, MAX_STEPS, 0, MAX_STEPS + 1),
        ("guidance", 1, MAX_GUIDANCE, 0.99, MAX_GUIDANCE + 0.01),
        ("strength", MIN_STRENGTH, 1, MIN_STRENGTH - 0.01, 1.01),
        ("seed", 0, 2**32 - 1, -1, 2**32),
    ],
)
def test_a_setting_is_taken_up_to_its_bounds_and_beyond_refused_by_name(name, lowest, highest, below, above):
    assert getattr(LCMSettings(**{name: lowest}), name) == lowest
    assert getattr(LCMSettings(**{name: highest}), name) == highest
    for value in (below, above):
        with pytest.raises(ValueError, match=f"^(LCM )?{name}: expected"):
            LCMSettings(**{name: value})


@pytest.mark.parametrize("name", ["steps", "seed"])
def test_numbers_that_count_are_whole(name):
    with pytest.raises(ValueError, match=f"^(LCM )?{name}: expected a whole number"):
        LCMSettings(**{name: 1.5})
