// What the visitor wants: picture and settings. Run once with `element`, `props` and `trigger` in scope; the parts of the picker follow.
//
// One run at a time. `value` is the newest wish, its serial number counts them; a wish made during a run is announced, which makes
// the server stop that run, and is sent when it has ended. Those between are dropped.

const $ = (selector) => element.querySelector(selector);
const left = new AbortController(); // when another subject is chosen
document.addEventListener("leaving", () => left.abort(), { once: true });
const listen = (name, act) => document.addEventListener(name, act, { signal: left.signal });
let running = 0; // the serial number of the run going on; the page's own first run is number 0
let announced = false;

function send() {
  running = props.value.serial;
  announced = false;
  trigger("input");
  wait();
}

// Who waits for others sees how many there are at most: the queue holds the wish itself, those before it and those behind.
let waiting = null;
let misses = 0;
let lost = false; // the connection; once it is back, the page is loaded anew, as the address says
function wait() {
  let before = Infinity;
  clearInterval(waiting);
  waiting = setInterval(async () => {
    if (Number(document.querySelector(".view")?.dataset.serial) === running) return ended();
    if (lost && (misses = (misses + 1) % 5)) return; // whoever is offline is not asked every second
    const size = await queueSize();
    if (waiting === null) return;
    if (size === null) return queue("The connection is lost. Trying to reach the page again …");
    if (lost) return location.reload();
    before = Math.min(before, Math.max(size - 1, 0));
    queue(before ? `Waiting: at most ${before} before you` : "");
  }, 1000);
}
async function queueSize() { // null: the server does not answer
  try {
    const answer = await fetch("gradio_api/queue/status");
    if (!answer.ok) throw new Error(answer.status);
    return (await answer.json()).queue_size;
  } catch {
    lost = true;
    return null;
  }
}
function queue(words) {
  $(".picker-queue").textContent = words;
}
function ended() {
  clearInterval(waiting);
  waiting = null;
  queue("");
}
wait(); // the page's own first run
left.signal.addEventListener("abort", ended);

function want(change) {
  props.value = { ...props.value, ...change, serial: props.value.serial + 1 };
  if (running === null) send();
  else if (!announced) {
    announced = true;
    trigger("stop");
  }
}

listen("reconstructed", () => {
  if (lost) return;
  ended();
  follow();
  if (props.value.serial !== running) send();
  else running = null;
});

// The address follows what is shown; Back brings an earlier picture again.
function follow() {
  const { query, index } = document.querySelector(".view")?.dataset ?? {};
  if (!query) return; // an error came before anything could be shown
  const said = Object.fromEntries(new URLSearchParams(query));
  const gone = Object.fromEntries(NAMES.filter((name) => !(name in said)).map((name) => [name, null]));
  const push = history.state?.wish !== undefined && history.state.wish.index !== Number(index);
  const { settings, reading } = props.value;
  window.address.set({ ...gone, ...said }, push, { wish: { index: Number(index), settings, reading } });
}
const NAMES = ["subject", "picture", "steps", "guidance", "strength", "seed", "repeats", "components", "regressor", "prompt",
  "own_prompt", "gains", "response", "balance", "image_scale", "guide"]; // of what a wish says in an address
window.addEventListener("popstate", ({ state }) => {
  if (state?.wish && JSON.stringify(state.wish) !== JSON.stringify(wished())) restore(state.wish);
}, { signal: left.signal });
const wished = () => (({ index, settings, reading }) => ({ index, settings, reading }))(props.value);

// Wants what was wanted before, or what a preset says, and lets the controls show it.
function restore(change) {
  want(change);
  mark(props.value.index);
  trigger("apply");
}
listen("restore", ({ detail }) => restore(detail));
const byName = (values) => JSON.stringify(Object.entries(values).sort()); // whatever their order
function change(name, value) {
  if (byName(value) !== byName(props.value[name])) want({ [name]: value });
}
listen("reading", ({ detail }) => change("reading", detail));
let typing = null; // words are followed once their writer rests
listen("settings", ({ detail }) => {
  clearTimeout(typing);
  const typed = detail.own_prompt !== props.value.settings.own_prompt;
  const blank = detail.prompt === "own" && !detail.own_prompt.trim();
  queue(blank ? "Type some words, or choose another prompt." : "");
  if (!blank) typing = setTimeout(() => change("settings", detail), typed ? 400 : 0);
});

// Settings with a new seed, if every picture is to have one; its field is told.
function seeded(settings) {
  if (!document.querySelector(".always-random input")?.checked) return settings;
  const seed = Math.floor(Math.random() * 1e6);
  const field = document.querySelector(".seed input");
  field.value = seed;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  return { ...settings, seed };
}
