"""Several subjects behind one page."""

import json
import shutil

import pytest
from conftest import write_tiny_bundle
from page_actions import SECONDS
from served import open_browser, serve_apps
from subjects import copy_as

from recon.files import BadFile
from recon.ui.server.library import Library, find_bundles

GAINS_SET = """() => {
    let told = 0;
    const button = document.createElement("button");
    button.className = "set-gain";
    button.dataset.roi = document.querySelector(".reading-gains [data-roi]").dataset.roi;
    button.dataset.value = 0;
    const count = () => { told += 1; };
    document.addEventListener("reading", count);
    document.body.append(button);
    button.click();
    button.remove();
    document.removeEventListener("reading", count);
    return told;
}"""  # how many reading panels answer to a button of the inspector


def make_two(folder):
    """Bundles of anna and of bert, with the same decoders."""
    write_tiny_bundle(folder / "tiny")
    for name in ("anna", "bert"):
        copy_as(folder / "tiny", folder / name, name)
    shutil.rmtree(folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    return make_two(tmp_path_factory.mktemp("bundles"))


def test_a_folder_of_bundles_and_a_list_of_them_are_found_by_their_subjects_names(bundles):
    expected = {name: bundles / name for name in ("anna", "bert")}
    assert find_bundles(str(bundles)) == expected
    assert find_bundles(f"{bundles / 'anna'}, {bundles / 'bert'}") == expected
    assert find_bundles(str(bundles / "bert")) == {"bert": bundles / "bert"}


@pytest.fixture(scope="module")
def url(bundles):
    with serve_apps({"RECON_BUNDLE": str(bundles)}) as (url,):
        yield url


def test_two_bundles_of_one_subject_and_none_at_all_are_refused(bundles, tmp_path):
    with pytest.raises(BadFile, match="two bundles of anna: .* name one of them"):
        find_bundles(f"{bundles},{bundles / 'anna'}")
    with pytest.raises(BadFile, match="no bundle at"):
        find_bundles(str(tmp_path))


def test_a_subject_is_opened_when_asked_for_and_shares_the_decoders_of_the_first(bundles):
    library = Library(find_bundles(str(bundles)))
    assert not library.first.opening.done()
    library.open_first()
    second = library.studio("bert")
    second.stage_2.result(60)
    assert second is library.studio("bert") and second.subject.name == "bert"
    assert second.bundle.vdvae is library.first.bundle.vdvae
    assert second.bundle.diffusion is library.first.bundle.diffusion
    assert second.bundle.regressors["latents"]["ridge"] is not library.first.bundle.regressors["latents"]["ridge"]


def test_a_damaged_first_subject_does_not_keep_the_second_from_opening(tmp_path):
    make_two(tmp_path)
    (tmp_path / "anna" / "vdvae.safetensors").write_bytes(b"")
    library = Library(find_bundles(str(tmp_path)))
    library.open_first()
    library.studio("bert").stage_2.result(60)
    with pytest.raises(BadFile, match="vdvae.safetensors should have"):
        library.first.bundle  # noqa: B018


def test_the_page_changes_its_subject_in_place_and_a_link_brings_back_the_one_it_names(url):
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        errors = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        for address, name, picture, other in (
            (url, "anna", 0, "bert"),
            (f"{url}?__theme=dark&subject=bert&picture=2&steps=2", "bert", 2, "anna"),
        ):
            page.goto(address)
            first = f'.view[data-query*="subject={name}&picture={picture}"][data-last="true"]'
            page.wait_for_selector(first, timeout=60 * SECONDS)
            page.locator(f'.subject label:has-text("{other}")').click()
            page.wait_for_selector(f'.view[data-query*="subject={other}"][data-last="true"]', timeout=30 * SECONDS)
            assert page.locator(".picker").count() == 1
            assert "picture=0" in page.locator(".view").get_attribute("data-query")
            assert page.locator("[role=alert]").count() == 0  # a link is done with once its subject is left
            kept = "__theme=dark&" if "__theme" in address else ""
            page.wait_for_url(f"{url}?{kept}subject={other}&picture=0")
            page.click(".picker-next")
            page.wait_for_selector(f'.view[data-query*="subject={other}"][data-serial="1"][data-last="true"]')
            assert page.evaluate(GAINS_SET) == 1, "the panel of a subject that was left answers too"
            page.wait_for_selector('.view[data-serial="2"][data-last="true"]')
        assert errors == []


def test_the_endpoint_names_the_subjects_that_there_are(url):
    gradio_client = pytest.importorskip("gradio_client")
    client = gradio_client.Client(url, verbose=False, download_files=False)
    answer = client.predict(1, steps=1, subject="bert", api_name="/reconstruct")
    assert answer["record"]["subject"] == "bert" and json.dumps(answer["record"])
    with pytest.raises(gradio_client.exceptions.AppError, match="subject: expected one of anna, bert, got 'carl'"):
        client.predict(1, subject="carl", api_name="/reconstruct")
