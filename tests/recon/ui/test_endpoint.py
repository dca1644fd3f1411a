"""What scripts send to the endpoint is typed once: taken, or refused by the name of what is wrong, in one sentence."""

import base64
import json
from typing import get_args

import gradio as gr
import numpy as np
import pytest
from conftest import write_tiny_bundle
from PIL import Image

from recon.environment import TEMPORARY
from recon.settings import GUIDES, PROMPTS, REGRESSORS, RESPONSES, Settings
from recon.share import RECORD
from recon.ui.controls import control_values, reading_of
from recon.ui.server.endpoint import Guide, Prompt, Regressor, Response, add_endpoint, response_file
from recon.ui.server.library import Library
from recon.ui.server.own_endpoints import Scale, add_own_endpoints
from recon.ui.server.studio import open_studio
from recon.uploads import SCALES, read_responses, what_it_looks_like


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory):
    """The endpoints' functions by name, on a tiny bundle of 5 images with 3 repeats and 3 components."""
    library = Library({"tiny": write_tiny_bundle(tmp_path_factory.mktemp("endpoint") / "bundle")})
    library.open_first()
    with gr.Blocks() as demo:
        add_endpoint(library)
        add_own_endpoints(library)
    return {event.api_name: event.fn for event in demo.fns.values()}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where what programs send and fetch lies."""
    monkeypatch.setenv(TEMPORARY, str(tmp_path / "sent"))
    (tmp_path / "sent").mkdir()
    return tmp_path / "sent"


@pytest.fixture
def ask(endpoints):
    return lambda **wish: list(endpoints["reconstruct"](**{"index": 1, "steps": 1} | wish))


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


# --- files, from programs and for them --------------------------------------------------------------------------------


def test_the_types_that_are_documented_are_the_choices_that_there_are():
    for documented, choices in (
        (Regressor, REGRESSORS),
        (Prompt, PROMPTS),
        (Guide, GUIDES),
        (Response, RESPONSES),
        (Scale, SCALES),
    ):
        assert get_args(documented) == tuple(choices)


def test_the_image_comes_as_a_file_that_holds_its_record(ask):
    *_, last = ask()
    with open(last["image"]["path"], "rb") as f:
        assert f.read() == base64.b64decode(last["png"])
    assert json.loads(Image.open(last["image"]["path"]).text[RECORD]) == json.loads(json.dumps(last["record"]))


@pytest.mark.parametrize("row", [0, 1])
def test_a_response_of_ones_own_is_decoded_and_its_file_deleted(endpoints, folder, rng, row):
    values = rng.normal(size=(2, 7)).astype(np.float32)
    np.save(folder / "mine.npy", values)
    *steps, last = endpoints["decode_response"]({"path": str(folder / "mine.npy")}, row=row)
    assert {step["stage"] for step in steps} == {"vdvae", "lcm"} and not (folder / "mine.npy").exists()
    assert last["record"]["row"] == row and last["record"]["picture"] is None and last["caption"].startswith("training")
    assert all(Image.open(last[name]["path"]).text[RECORD] for name in ("image", "layout"))


def test_an_image_of_ones_own_comes_back_with_the_predicted_response_and_what_was_cut_off(endpoints, folder):
    Image.new("RGB", (90, 60), (200, 30, 30)).save(folder / "mine.png")
    *_, last = endpoints["image_to_brain"]({"path": str(folder / "mine.png")})
    response = np.load(last["response"]["path"])
    assert response.shape == (7,) and "cut off" in last["notes"][0] and "predicted" in last["record"]["response"]
    np.save(folder / "again.npy", response)
    *_, again = endpoints["decode_response"]({"path": str(folder / "again.npy")})
    assert np.array_equal(*(np.asarray(Image.open(a["image"]["path"])) for a in (last, again)))


@pytest.mark.parametrize("name", ["decode_response", "image_to_brain"])
@pytest.mark.parametrize("file", [
    lambda path: str(path), lambda path: {"path": str(path)}, lambda path: {"path": f"{path.parent}/sent/../{path.name}"},
    lambda path: {"path": "mine\0"}, lambda path: {}, lambda path: None, lambda path: {"path": 3},
])  # fmt: skip
def test_no_other_file_of_this_computer_is_read_or_deleted(endpoints, tmp_path, name, file):
    np.save(tmp_path / "mine.npy", np.ones(7))
    with pytest.raises(gr.Error, match="file: expected one that was uploaded before"):
        list(endpoints[name](file(tmp_path / "mine.npy")))
    assert (tmp_path / "mine.npy").exists()


def test_a_link_out_of_the_folder_is_not_followed(endpoints, folder, tmp_path):
    np.save(tmp_path / "mine.npy", np.ones(7))
    (folder / "link.npy").symlink_to(tmp_path / "mine.npy")
    with pytest.raises(gr.Error, match="file: expected one that was uploaded before"):
        list(endpoints["decode_response"]({"path": str(folder / "link.npy")}))


@pytest.mark.parametrize("wish, words", [
    ({"row": 2}, "row: expected a whole number from 0 to 1, got 2"), ({"row": "0"}, "row: expected"),
    ({"row": None}, "row: expected"),
    ({"scale": "raw"}, "raw responses: expected at least 10 rows"), ({"scale": ["raw"]}, "scale: expected"),
    ({"regressor": "MLP"}, "regressor: expected"), ({"seed": -1}, "seed: expected"), ({"subject": "carl"}, "subject: expected"),
])  # fmt: skip
def test_what_cannot_be_decoded_is_refused_by_its_name(endpoints, folder, rng, wish, words):
    np.save(folder / "mine.npy", rng.normal(size=(2, 7)))
    with pytest.raises(gr.Error, match=words):
        list(endpoints["decode_response"]({"path": str(folder / "mine.npy")}, **wish))
