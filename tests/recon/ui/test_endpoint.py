"""What scripts send to the endpoint is typed once: taken, or refused by the name of what is wrong, in one sentence."""

import json

import gradio as gr
import pytest
from conftest import write_tiny_bundle

from recon.ui.server.endpoint import add_endpoint
from recon.ui.server.library import Library


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
