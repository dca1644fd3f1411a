"""What scripts send to the endpoint is typed once: taken, or refused by the name of what is wrong, in one sentence."""

import base64
import json

import gradio as gr
import numpy as np
import pytest
from conftest import write_tiny_bundle

from recon.settings import Settings
from recon.ui.controls import control_values, reading_of
from recon.ui.server.endpoint import add_endpoint, response_file
from recon.ui.server.library import Library
from recon.ui.server.studio import open_studio
from recon.uploads import read_responses, what_it_looks_like


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """The endpoint's function, on a tiny bundle of 5 images with 3 repeats and 3 components."""
    library = Library({"tiny": write_tiny_bundle(tmp_path_factory.mktemp("endpoint") / "bundle")})
    library.open_first()
    with gr.Blocks() as demo:
        add_endpoint(library)
    (endpoint,) = (event.fn for event in demo.fns.values() if event.api_name == "reconstruct")
    return lambda **wish: list(endpoint(**{"index": 1, "steps": 1} | wish))


HUGE = 10**5000  # as long as JSON may write a number, longer than Python prints one
WRONG = {
    "index": ["17", None, True, 17.5, -1, 5, 10**9, HUGE, float("nan"), float("inf"), [1], {}],
    "components": ["3", 2.5, 0, -1, 4, 10**9, HUGE, True, [3]],
    "repeats": ["1", 1.5, 0, 99, HUGE, False, {}],
    "gains": [["FFA", 0], [], "FFA", 0, False, {"V1": None}, {"V1": "0"}, {"V1": 9}, {"V1": float("nan")}, {"": HUGE}],
    "own_prompt": [None, 3, ["a"], "x" * 301],
    "steps": [None, "4", 0, 9, 1.5, HUGE, True],
    "guidance": [None, "1", 0.5, 3, float("nan"), HUGE],
    "strength": [None, "1", 0.1, 1.1, -HUGE],
    "seed": [None, "0", -1, 0.5, 2**32, HUGE],
    "prompt": [None, 3, "", "Decoded", ["decoded"], {}],
    "regressor": [None, 0, "", "RIDGE", ["mlp"], {}],
    "subject": ["", 0, False, [], "carl", ["tiny"], HUGE],
}
CALLED = {"steps": "LCM steps", "own_prompt": "own prompt", "prompt": "prompt source"}
CASES = [
    pytest.param(name, value, id=f"{name}-{k}") for name, values in WRONG.items() for k, value in enumerate(values)
]


@pytest.mark.parametrize("name, value", CASES)
def test_a_wrong_value_is_refused_by_its_name(ask, name, value):
    with pytest.raises(gr.Error) as refused:
        ask(**{name: value})
    told = str(refused.value)
    assert CALLED.get(name, name if name != "gains" else "gain") in told and "expected" in told
    assert "\n" not in told and len(told) < 300


def test_an_unknown_area_is_refused_with_those_that_there_are(ask):
    with pytest.raises(
        gr.Error, match="expected one of V1, unlabelled, got &#x27;FFA&#x27;|expected one of V1, unlabelled, got 'FFA'"
    ):
        ask(gains={"FFA": 0})


def test_all_null_is_refused_by_the_first_name(ask):
    wish = dict.fromkeys(("index", "regressor", "steps", "guidance", "strength", "seed", "prompt", "own_prompt"))
    with pytest.raises(gr.Error, match="expected"):
        ask(**wish)


@pytest.mark.parametrize("wish", [
    {"components": 3.0}, {"components": 3}, {"components": None}, {"repeats": 3}, {"repeats": 2.0}, {"gains": None}, {"gains": {}},
    {"gains": {"V1": 0}}, {"subject": None}, {"subject": "tiny"}, {"index": 4.0}, {"seed": 2**32 - 1},
])  # fmt: skip
def test_what_is_meant_is_taken_and_recorded_as_it_was_used(ask, wish):
    *_, last = ask(**wish)
    record = json.loads(json.dumps(last["record"]))
    assert record["picture"] == int(wish.get("index", 1)) and last["png"]
    for name in ("components", "repeats"):
        value = record["settings"][name]
        assert value == wish.get(name) and not isinstance(value, float)


def test_a_response_that_the_page_gives_away_is_one_that_it_reads_as_z_scores(tmp_path):
    studio, _ = open_studio(write_tiny_bundle(tmp_path / "bundle"))
    wish = {"index": 1, "settings": control_values(Settings()), "reading": reading_of(Settings(gains=(("V1", 0.0),)))}
    file = response_file(studio, wish)
    (tmp_path / file["name"]).write_bytes(base64.b64decode(file["data"]))
    values = read_responses(tmp_path / file["name"], 7)
    assert (values[0, :3] == 0).all() and np.array_equal(values[0, 3:], studio.subject.test.response(1)[3:])
    assert "looks like z-scores" in what_it_looks_like(values)


@pytest.mark.parametrize(
    "wish", [None, {}, {"index": 99}, {"index": "1"}, [], {"index": -1, "settings": {}, "reading": {}}]
)
def test_no_response_is_given_for_what_is_no_wish(tmp_path, wish):
    studio, _ = open_studio(write_tiny_bundle(tmp_path / "bundle"))
    full = {"settings": control_values(Settings()), "reading": reading_of(Settings())}
    assert response_file(studio, full | wish if isinstance(wish, dict) and len(wish) == 1 else wish) is None
