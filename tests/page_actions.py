"""What tests of the page do in a browser, and how they watch the frames that come."""

import time

SECONDS = 1000  # in milliseconds, the unit of Playwright's timeouts

CHOOSE = """index => new Promise((resolve, reject) => {
    const start = performance.now();
    const look = () => {
        const view = document.querySelector("[data-last]");
        if (view.dataset.index == index && view.dataset.last == "true") resolve(performance.now() - start);
        else if (performance.now() - start > 20000) reject(new Error(`picture ${index} did not appear in 20 s`));
        else requestAnimationFrame(look);
    };
    document.querySelector(`.thumb[data-index="${index}"]`).click();
    look();
})"""
OBSERVE = """() => {
    const key = view => view && Object.values(view.dataset).join();
    let before = key(document.querySelector(".view"));
    window.seen = [];
    window.observer?.disconnect();
    window.observer = new MutationObserver(() => {
        const view = document.querySelector(".view");
        if (key(view) === before) return;
        before = key(view);
        const [index, serial, step] = ["index", "serial", "step"].map(name => Number(view.dataset[name]));
        const {height} = view.getBoundingClientRect();
        window.seen.push({index, serial, step, last: view.dataset.last == "true", height});
    });
    window.observer.observe(document.body, {childList: true, subtree: true, attributes: true});
}"""
SETTLED = """() => {
    const view = document.querySelector(".view");
    const key = view && Object.values(view.dataset).join();
    if (key !== window.quiet) [window.quiet, window.since] = [key, performance.now()];
    return view && view.dataset.last == "true" && performance.now() - window.since > 700;
}"""
SLIDE = """([label, values]) => {
    const range = document.querySelector(`input[type=range][aria-label="range slider for ${label}"]`);
    for (const value of values) {
        range.value = value;
        range.dispatchEvent(new Event("input", {bubbles: true}));
    }
}"""
STAGE_1 = "['ridge', 'mlp', 'ceiling'].map(s => document.querySelector(`.card.${s}`).outerHTML).join()"
STAGE_2 = "document.querySelector('.card.lcm img').src"


def settle(page):
    """Waits until the last frame has been there for a while."""
    page.wait_for_function(SETTLED, timeout=40 * SECONDS)


def slide(page, label, *values):
    """Moves a slider as dragging does: an event for every value."""
    page.evaluate(SLIDE, [label, values])


def press(page, selector):
    page.evaluate("selector => document.querySelector(selector).click()", selector)


def choose(page, index):
    press(page, f'.thumb[data-index="{index}"]')


def choose_prompt(page, source):
    page.click(f".prompt label:has([value={source}])")


def write(page, selector, text):
    """The last letter by the keyboard: what is put in a field at once, gradio does not take for typed."""
    page.fill(selector, text[:-1])
    page.locator(selector).press_sequentially(text[-1])


def enter(page, selector, text):
    page.fill(selector, text)
    page.press(selector, "Enter")


def change(page, act, *args):
    """Does act(page, *args) and waits for its end -> the frames seen, and the time to the last of them in ms."""
    page.evaluate(OBSERVE)
    start = time.perf_counter()
    act(page, *args)
    page.wait_for_function("seen.length && seen.at(-1).last", timeout=20 * SECONDS)
    took = 1000 * (time.perf_counter() - start)
    settle(page)
    return page.evaluate("seen"), took
