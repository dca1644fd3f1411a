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
function wait() {
  let before = Infinity;
  clearInterval(waiting);
  waiting = setInterval(async () => {
    if (Number(document.querySelector(".view")?.dataset.serial) === running) return ended();
    const { queue_size: size } = await (await fetch("gradio_api/queue/status")).json();
    before = Math.min(before, Math.max(size - 1, 0));
    if (waiting !== null) queue(before ? `Waiting: at most ${before} before you` : "");
  }, 1000);
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
  ended();
  if (props.value.serial !== running) send();
  else running = null;
});
const byName = (values) => JSON.stringify(Object.entries(values).sort()); // whatever their order
for (const name of ["settings", "reading"]) {
  listen(name, ({ detail }) => {
    if (byName(detail) !== byName(props.value[name])) want({ [name]: detail });
  });
}

// Settings with a new seed, if every picture is to have one; its field is told.
function seeded(settings) {
  if (!document.querySelector(".always-random input")?.checked) return settings;
  const seed = Math.floor(Math.random() * 1e6);
  const field = document.querySelector(".seed input");
  field.value = seed;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  return { ...settings, seed };
}
