"""The brain map in a real browser: a subject on a surface, and one in a volume."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import write_tiny_bundle
from page_actions import SECONDS
from served import open_browser, serve_apps

from recon.brain.space import Volume
from recon.bundle.manifest import rewrite_manifest
from recon.bundle.subject import load_subject, save_subject

SHAPE = (9, 10, 6)
MAPS = ("r2", "ceiling", "ratio", "r", "ncsnr", "response", "areas")
COLOURS = "document.querySelector('.brain-plot').data.filter(t => t.vertexcolor).map(t => t.vertexcolor.join()).join()"
CENTRES = "document.querySelector('.brain-plot').data.filter(t => t.type == 'scatter3d')"
PIXELS = "document.querySelector('.brain-slices canvas').toDataURL()"
SLIDE = """value => {
    const range = document.querySelector(".brain-threshold input");
    range.value = value;
    range.dispatchEvent(new Event("input"));
}"""

pytestmark = pytest.mark.exhaustive


def write_volume_bundle(folder):
    """A tiny bundle whose voxels fill most of a small box; its first axis runs to the left."""
    indices = np.argwhere(np.indices(SHAPE).sum(0) > 4).astype(np.int16)
    write_tiny_bundle(folder, len(indices), len(indices))
    affine = np.diag([-1.8, 1.8, 1.8, 1.0])
    rois = {"V1": indices[:, 1] < 4, "PPA": indices[:, 2] > 3}
    subject = load_subject(folder / "subject.h5")
    save_subject(folder / "subject.h5", replace(subject, geometry=Volume(SHAPE, indices, affine, rois)))
    rewrite_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Opens both subjects: name -> a page at rest, with the errors of its console."""
    volume = write_volume_bundle(tmp_path_factory.mktemp("volume") / "bundle")
    with open_browser() as browser, serve_apps({}, {"RECON_BUNDLE": str(volume)}) as urls:
        yield {name: open_page(browser, url) for name, url in zip(("surface", "volume"), urls)}


def open_page(browser, url):
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.errors = []
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector('.brain[data-ready="true"]', timeout=60 * SECONDS)
    return page


@pytest.fixture
def surface(pages):
    yield from at_rest(pages["surface"])


@pytest.fixture
def volume(pages):
    yield from at_rest(pages["volume"])


def at_rest(page):
    yield page
    assert page.errors == []


def show(page, shape=None, value=None):
    if shape:
        page.click(f".brain-shapes [data-name={shape}]")
        page.wait_for_selector(f".brain[data-shape={shape}]", timeout=20 * SECONDS)
    if value:
        page.select_option(".brain-map", value)
        page.wait_for_selector(f".brain[data-map={value}]", timeout=20 * SECONDS)


def slide(page, percent):
    page.evaluate(SLIDE, percent)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.parametrize("shape", ["flat", "pial", "inflated"])
def test_every_value_has_its_own_colours_on_every_surface(surface, shape):
    show(surface, shape)
    seen = set()
    for value in MAPS:
        show(surface, value=value)
        seen.add(surface.evaluate(COLOURS))
    assert len(seen) == len(MAPS)
    assert ("not on the flat map" in surface.inner_text(".brain-help")) == (shape == "flat")


def test_the_threshold_grays_exactly_the_voxels_below_it(surface, demo_bundle):
    show(surface, "inflated", "areas")  # every shown voxel has a colour or the gray of the unlabelled
    show(surface, value="r")
    gray = "document.querySelector('.brain-plot').data.filter(t => t.vertexcolor).map(t => t.vertexcolor)"
    slide(surface, 0)
    everything = [np.array(c) for c in surface.evaluate(gray)]
    slide(surface, 20)
    assert surface.inner_text(".brain-threshold output") == "20 %"
    thresholded = [np.array(c) for c in surface.evaluate(gray)]
    geometry, hidden = demo_bundle.subject.geometry, 100 * demo_bundle.scores.r2 < 20
    for h in (0, 1):
        changed = (everything[h] != thresholded[h])[geometry.vertex[geometry.hemisphere == h]]
        np.testing.assert_array_equal(changed, hidden[geometry.hemisphere == h])
    slide(surface, 0)


def test_one_hemisphere_or_both(surface):
    show(surface, "inflated")
    bodies = "document.querySelector('.brain-plot').data.filter(t => t.vertexcolor).map(t => [t.name, t.x])"
    for side, names in (("left", ["left"]), ("right", ["right"]), ("both", ["left", "right"])):
        surface.click(f".brain-sides [data-name={side}]")
        surface.wait_for_function(f"{bodies}.length == {len(names)} && {bodies}[0][0] == '{names[0]}'")
    for view in ("ventral", "lateral", "medial", "posterior"):
        surface.click(f".brain-views [data-name={view}]")
        left, right = (np.array(x) for _, x in surface.evaluate(bodies))
        assert left.max() == pytest.approx(-6) and right.min() == pytest.approx(6)


def test_outlines_can_be_hidden(surface):
    show(surface, "inflated")
    lines = "document.querySelector('.brain-plot').data.filter(t => t.mode == 'lines' && t.visible).length"
    assert surface.evaluate(lines) == 11
    surface.uncheck(".brain-outlines input")
    assert surface.evaluate(lines) == 0
    surface.check(".brain-outlines input")
    assert surface.evaluate(lines) == 11


def test_a_click_on_the_brain_opens_the_voxel_that_the_pointer_named(surface):
    show(surface, "inflated", "r2")
    surface.wait_for_timeout(SECONDS / 2)
    box = surface.locator(".brain-plot").bounding_box()
    for dx in (0.66, 0.7, 0.74, 0.6):
        surface.mouse.move(box["x"] + dx * box["width"], box["y"] + 0.6 * box["height"])
        surface.wait_for_timeout(SECONDS)
        if surface.is_visible(".brain-tip"):
            break
    named = surface.inner_text(".brain-tip").split("·")[0].split()[1]
    surface.mouse.down()
    surface.mouse.up()
    surface.wait_for_selector(f'.inspector[data-voxel="{named}"]', timeout=10 * SECONDS)
    assert surface.input_value(".brain-voxel input") == named
    surface.wait_for_function("document.querySelector('.brain-plot').data.at(-1).x.length == 1")


def test_a_voxel_is_chosen_by_keyboard_alone(surface):
    surface.focus(".brain-voxel input")
    surface.keyboard.press("Control+A")
    surface.keyboard.type("17")
    surface.keyboard.press("Enter")
    surface.wait_for_selector('.inspector[data-voxel="17"]', timeout=10 * SECONDS)
    assert surface.locator(".inspector .liked img").count() == 10


def test_the_legend_opens_an_area_and_thickens_its_outline(surface, demo_bundle):
    show(surface, "inflated")
    surface.click(".brain-legend [data-name=PPA]")
    surface.wait_for_selector('.inspector[data-roi="PPA"]', timeout=10 * SECONDS)
    n = demo_bundle.subject.geometry.rois["PPA"].sum()
    assert surface.inner_text(".inspector .panel-head p").startswith(f"{n} voxels")
    width = "document.querySelector('.brain-plot').data.find(t => t.name == 'PPA').line.width"
    thick = surface.evaluate(width)
    surface.click(".brain-legend [data-name=PPA]")
    assert surface.evaluate(width) < thick


def test_every_control_can_be_reached_by_tab(surface):
    surface.focus(".brain-map")
    reached = set()
    for _ in range(40):
        reached.add(surface.evaluate("document.activeElement.closest('[class^=brain-]')?.className.split(' ')[0]"))
        surface.keyboard.press("Tab")
    groups = {"map", "shapes", "sides", "views", "threshold", "outlines", "voxel", "legend"}
    assert {f"brain-{group}" for group in groups} <= reached


def test_slices_show_every_value_and_open_the_voxel_clicked(volume):
    show(volume, "slices")
    seen = set()
    for value in ("r2", "ceiling", "response", "areas"):
        show(volume, value=value)
        seen.add(volume.evaluate(PIXELS))
    assert len(seen) == 4
    canvas = volume.locator(".brain-slices canvas")
    box = canvas.bounding_box()
    for dx, dy in ((0.1, 0.3), (0.5, 0.25), (0.8, 0.8)):
        canvas.hover(position={"x": dx * box["width"], "y": dy * box["height"]})
        if volume.is_visible(".brain-tip"):
            break
    named = volume.inner_text(".brain-tip").split("·")[0].split()[1]
    canvas.click(position={"x": dx * box["width"], "y": dy * box["height"]})
    volume.wait_for_selector(f'.inspector[data-voxel="{named}"]', timeout=10 * SECONDS)


def test_the_subjects_right_is_on_the_left_of_a_slice(volume):
    show(volume, "slices")
    volume.click(".brain-sides [data-name=both]")
    canvas = volume.locator(".brain-slices canvas")
    box, sides = canvas.bounding_box(), []
    for x in range(8, int(box["width"]), 6):  # along the middle of the first row of slices
        canvas.hover(position={"x": x, "y": 60})
        if volume.is_visible(".brain-tip"):
            sides.append(volume.inner_text(".brain-tip b").split(" · ")[-1])
    assert sides[0] == "right" and "left" in sides
    assert sides[: sides.index("left")] == ["right"] * sides.index("left")


def test_voxel_centres_take_every_value_too(volume):
    show(volume, "centres", "r2")
    n_voxels = (np.indices(SHAPE).sum(0) > 4).sum()
    assert (
        volume.evaluate(f"{CENTRES}.filter(t => t.name != 'chosen voxel').reduce((n, t) => n + t.x.length, 0)")
        == n_voxels
    )
    seen = set()
    for value in ("r2", "response", "areas"):
        show(volume, value=value)
        seen.add(volume.evaluate(f"{CENTRES}[0].marker.color.join()"))
    assert len(seen) == 3


def test_the_map_fits_a_phone(surface):
    surface.set_viewport_size({"width": 390, "height": 844})
    surface.wait_for_timeout(SECONDS / 2)
    assert surface.evaluate("document.documentElement.scrollWidth") <= 390
    surface.set_viewport_size({"width": 1366, "height": 768})


def test_glass_shows_the_strongest_voxel_of_each_line_of_sight_and_opens_it(volume, tmp_path):
    subject = load_subject(write_volume_bundle(tmp_path / "same") / "subject.h5")
    strength, places = np.abs(subject.test.response(0)), subject.geometry.indices
    show(volume, "slices", "response")
    before = volume.evaluate(PIXELS)
    show(volume, "glass")
    assert volume.evaluate(PIXELS) != before
    canvas, seen = volume.locator(".brain-slices canvas"), set()
    box = canvas.bounding_box()
    for x in range(3, int(box["width"]), 12):
        for y in range(16, int(box["height"]), 24):
            canvas.hover(position={"x": x, "y": y})
            if volume.is_visible(".brain-tip"):
                pointed = int(volume.inner_text(".brain-tip b").split(" · ")[0].split()[1])
                seen.add(pointed)
                where = {"x": x, "y": y}
    lines = [
        [strength[(np.delete(places, axis, 1) == np.delete(places[v], axis)).all(1)].max() for axis in range(3)]
        for v in seen
    ]
    assert len(seen) > 20 and all(strength[v] in strongest for v, strongest in zip(seen, lines))
    canvas.click(position=where)
    volume.wait_for_selector(f'.inspector[data-voxel="{pointed}"]', timeout=10 * SECONDS)


def test_from_the_front_and_from_below_the_subjects_right_is_on_the_left_of_the_glass(volume):
    show(volume, "glass", "areas")
    canvas, sides = volume.locator(".brain-slices canvas"), []
    box = canvas.bounding_box()
    for x in range(int(box["width"]) - 4, 0, -6):  # from the right edge, along the last side's middle
        canvas.hover(position={"x": x, "y": int(box["height"]) // 2})
        if volume.is_visible(".brain-tip"):
            sides.append(volume.inner_text(".brain-tip b").split(" · ")[-1])
    assert sides[0] == "left" and "right" in sides


CAMERA = "document.querySelector('.brain-plot')._fullLayout.scene._scene.getCamera().eye"


def test_arrow_keys_turn_the_brain_and_the_wheel_scrolls_the_page(surface):
    show(surface, "inflated", "r2")
    surface.focus(".brain-plot")
    seen = [surface.evaluate(CAMERA)]
    for key in ("ArrowRight", "ArrowUp", "+"):
        surface.keyboard.press(key)
        surface.wait_for_timeout(SECONDS / 2)
        seen.append(surface.evaluate(CAMERA))
    assert len({str(eye) for eye in seen}) == 4
    box = surface.locator(".brain-plot").bounding_box()
    surface.mouse.move(box["x"] + 90, box["y"] + 90)
    surface.mouse.wheel(0, 200)
    surface.wait_for_timeout(SECONDS / 2)
    assert surface.evaluate("scrollY") > 0 and surface.evaluate(CAMERA) == seen[-1]
    surface.evaluate("scrollTo(0, 0)")


def test_the_brain_fills_the_window_and_escape_gives_it_back(surface):
    surface.click(".brain-enlarge")
    surface.wait_for_timeout(SECONDS / 2)
    assert surface.locator(".brain").bounding_box() == {"x": 0, "y": 0, "width": 1366, "height": 768}
    assert surface.locator(".brain-plot canvas").first.bounding_box()["width"] > 1200
    surface.keyboard.press("Escape")
    assert surface.locator(".brain").bounding_box()["width"] < 500
    assert surface.evaluate("document.activeElement.className") == "button brain-enlarge"


def test_the_scale_has_a_name_a_unit_and_round_numbers(surface):
    for value, name, numbers in (
        ("r2", "R², %", ["0", "20", "40", "≥ 60"]),
        ("ncsnr", "ncsnr", ["0", "0.5", "1", "≥ 1.5"]),
    ):
        show(surface, "inflated", value)
        assert surface.inner_text(".brain-scale .scale-name") == name
        assert surface.locator(".brain-scale .ticks span").all_inner_texts() == numbers


def test_map_surface_and_voxel_are_in_the_address_which_brings_them_back(surface):
    show(surface, "flat", "ncsnr")
    surface.fill(".brain-voxel input", "100")
    surface.press(".brain-voxel input", "Enter")
    surface.wait_for_selector('.inspector[data-voxel="100"]', timeout=10 * SECONDS)
    assert all(part in surface.url for part in ("map=ncsnr", "shape=flat", "voxel=100"))
    page = open_page(surface.context.browser, surface.url)
    page.wait_for_selector('.inspector[data-voxel="100"]', timeout=10 * SECONDS)
    assert page.evaluate("({...document.querySelector('.brain').dataset})")["shape"] == "flat"
    assert page.locator(".brain-map").input_value() == "ncsnr" and page.url == surface.url and page.errors == []
    page.close()
    show(surface, "inflated", "r2")
    assert "map=" not in surface.url and "shape=" not in surface.url


def test_maps_are_saved_as_files_with_the_values_shown(surface, demo_bundle, tmp_path):
    show(surface, "inflated", "response")
    surface.click(".brain-save summary")
    saved = {}
    for label in ("CSV", "GIfTI", "PNG"):
        with surface.expect_download() as download:
            surface.click(f".brain-files button:has-text('{label}')")
        saved[label] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[label])
    index = int(surface.get_attribute(".view", "data-index"))
    values = np.genfromtxt(saved["CSV"], delimiter=",", skip_header=1, usecols=4)
    np.testing.assert_allclose(values, demo_bundle.subject.test.response(index), rtol=1e-4, atol=1e-5)
    assert saved["GIfTI"].name == "demo_response_gifti.zip" and saved["PNG"].stat().st_size > 10_000


def test_a_finger_that_moves_down_scrolls_and_one_that_moves_aside_turns(surface):
    context = surface.context.browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(surface.url)
    page.wait_for_selector('.brain[data-ready="true"]', timeout=60 * SECONDS)
    page.locator(".brain-plot").scroll_into_view_if_needed()
    box, send = page.locator(".brain-plot").bounding_box(), context.new_cdp_session(page).send

    def swipe(dx, dy):
        x, y = box["x"] + 190, box["y"] + 170
        send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        for k in range(1, 9):
            send(
                "Input.dispatchTouchEvent",
                {"type": "touchMove", "touchPoints": [{"x": x + k * dx / 8, "y": y + k * dy / 8}]},
            )
        send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_timeout(SECONDS)
        return page.evaluate("scrollY"), page.evaluate(CAMERA)

    before = page.evaluate("scrollY"), page.evaluate(CAMERA)
    aside = swipe(-100, 0)
    assert aside[0] == before[0] and aside[1] != before[1]
    down = swipe(0, 120)
    assert down[0] < aside[0] and down[1] == aside[1]
    context.close()


def test_a_voxel_is_drawn_for_and_an_image_that_it_likes_opens(surface):
    surface.fill(".brain-voxel input", "1234")
    surface.press(".brain-voxel input", "Enter")
    surface.wait_for_selector('.inspector[data-voxel="1234"]', timeout=10 * SECONDS)
    assert not surface.locator(".drawn").count()
    surface.click(".draw-voxel")
    surface.wait_for_selector('.drawn[data-voxel="1234"] [data-saved="true"]', timeout=60 * SECONDS)
    assert surface.locator(".drawn .card img").count() == 3
    liked = surface.locator(".liked .open-picture").nth(1)
    index = liked.get_attribute("data-index")
    liked.click()
    surface.wait_for_selector(f'.view[data-index="{index}"][data-last="true"]', timeout=60 * SECONDS)
    surface.wait_for_selector(f'.inspector h4:has-text("Decoded most like picture {index}")', timeout=10 * SECONDS)
    assert not surface.locator(".drawn").count()  # another image's inspector begins anew
    assert not surface.errors
