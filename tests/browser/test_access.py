"""axe-core finds nothing to complain of: every tab, in both themes, at both sizes, with everything unfolded."""

import pytest
from page_actions import SECONDS
from served import open_tab

axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = pytest.mark.slow

SIZES = {"laptop": (1366, 768), "phone": (390, 844)}
TABS = ("Explore", "Compare", "Brain → image", "Image → brain", "Your data", "Evaluate", "About")
UNFOLD = "() => document.querySelectorAll('details').forEach(d => { d.open = true; })"
DECODED = '.decoded-cards[data-saved="true"]:visible'
ACTIONS = {  # tab -> what fills it, and what is waited for
    "Compare": (".start-grid", '.grid[data-last="true"]'),
    "Image → brain": (".take-picture", DECODED),
    "Evaluate": (None, ".side-tables"),
}


def complaints(page) -> list[str]:
    """What axe-core finds on the page as it is: the rule, and where."""
    found = axe.Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize(
    "size, theme",
    [
        ("phone", "dark"),
        *(
            pytest.param(size, theme, marks=pytest.mark.exhaustive)
            for size, theme in (("phone", "light"), ("laptop", "dark"), ("laptop", "light"))
        ),
    ],
)
def test_axe_finds_no_violation_on_any_tab(browser, address, size, theme):
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
    page.goto(address)
    page.wait_for_selector('.view[data-last="true"]', timeout=90 * SECONDS)
    page.wait_for_selector('.brain[data-ready="true"]', timeout=90 * SECONDS)
    found = {}
    for tab in TABS:
        open_tab(page, tab)
        button, ready = ACTIONS.get(tab, (None, None))
        if button:
            page.click(button)
        if ready:
            page.wait_for_selector(ready, timeout=90 * SECONDS)
        page.evaluate(UNFOLD)
        page.wait_for_timeout(SECONDS)
        found[tab] = complaints(page)
    page.close()
    assert found == {tab: [] for tab in TABS}
