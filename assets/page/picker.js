// The picker, run once with `element`, `props` and `trigger` in scope. `value` is what the visitor wants: picture and settings.

const n = props.n_images;
const $ = (selector) => element.querySelector(selector);
const [range, field, strip] = [$(".picker-range"), $(".picker-number"), $(".picker-strip")];

const thumbs = Array.from({ length: n }, (_, k) => {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "thumb", tabIndex: -1 });
  const [column, row] = [k % props.columns, Math.floor(k / props.columns)];
  button.style.backgroundPosition = `${-column * props.side}px ${-row * props.side}px`;
  button.dataset.index = k;
  button.setAttribute("aria-label", `Test picture ${k}`);
  button.addEventListener("click", () => choose(k));
  return button;
});
strip.replaceChildren(...thumbs);
let shown = thumbs.map((_, k) => k); // pictures in the strip, in their order
strip.style.setProperty("--sheet", `url(${props.sheet})`);
strip.style.setProperty("--side", `${props.side}px`);

function mark(k) {
  thumbs.forEach((thumb, other) => thumb.classList.toggle("chosen", other === k));
  field.value = k;
  if (!thumbs[k]) return;
  range.value = shown.indexOf(k);
  strip.scrollTo({ left: thumbs[k].offsetLeft - strip.clientWidth / 2 + props.side / 2, behavior: "smooth" });
}

// One run at a time. `value` is the newest wish, its serial number counts them; a wish made during a run is announced, which makes
// the server stop that run, and is sent when it has ended. Those between are dropped.
let running = 0; // the serial number of the run going on; the page's own first run is number 0
let announced = false;

function send() {
  running = props.value.serial;
  announced = false;
  trigger("input");
}

function want(change) {
  props.value = { ...props.value, ...change, serial: props.value.serial + 1 };
  if (running === null) send();
  else if (!announced) {
    announced = true;
    trigger("stop");
  }
}

function choose(k) {
  mark(k);
  want({ index: k });
}

document.addEventListener("reconstructed", () => {
  if (props.value.serial !== running) send();
  else running = null;
});
for (const name of ["settings", "reading"]) {
  document.addEventListener(name, ({ detail }) => {
    if (JSON.stringify(detail) !== JSON.stringify(props.value[name])) want({ [name]: detail });
  });
}

// Filter and order. A picture's words are its caption and its labels.
const shuffled = (list) => { // seeded: the same order at every visit
  let seed = 1;
  const random = () => ((seed = (seed * 16807) % 2147483647) - 1) / 2147483646;
  return list.map((k) => [random(), k]).sort((a, b) => a[0] - b[0]).map(([, k]) => k);
};
const ORDERS = { index: (list) => list, random: shuffled };
const LABELS = { index: "by number", random: "shuffled" };
for (const [name, values] of Object.entries(props.scores)) {
  ORDERS[name] = (list) => [...list].sort((a, b) => values[b] - values[a]);
  LABELS[name] = `best ${name}`;
}
$(".picker-sort").replaceChildren(...Object.entries(LABELS).map(([value, text]) => new Option(text, value)));

function arrange() {
  const wanted = $(".picker-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const list = thumbs.map((_, k) => k).filter((k) => wanted.every((word) => props.words[k].includes(word)));
  shown = ORDERS[$(".picker-sort").value](list);
  strip.replaceChildren(...shown.map((k) => thumbs[k]));
  strip.dataset.empty = shown.length === 0;
  range.max = Math.max(shown.length - 1, 0);
  mark(props.value.index);
}

function step(by) {
  if (!shown.length) return;
  const at = shown.indexOf(props.value.index);
  choose(shown[at < 0 ? 0 : (at + by + shown.length) % shown.length]);
}
$(".picker-filter").addEventListener("input", arrange);
$(".picker-sort").addEventListener("change", arrange);
range.addEventListener("input", () => { field.value = shown[Number(range.value)] ?? ""; });
range.addEventListener("change", () => shown.length && choose(shown[Number(range.value)]));
field.addEventListener("change", () => Number.isInteger(field.valueAsNumber) && choose(field.valueAsNumber));
$(".picker-previous").addEventListener("click", () => step(-1));
$(".picker-next").addEventListener("click", () => step(1));
$(".picker-random").addEventListener("click", () => step(1 + Math.floor(Math.random() * Math.max(shown.length - 1, 1))));
document.addEventListener("keydown", (event) => { // ← → wherever they mean nothing else
  const typing = event.target.closest?.("input, textarea, select, [role=tab], [role=radiogroup], .brain-plot, .versus");
  if (typing || event.altKey || event.ctrlKey || event.metaKey || !element.offsetParent) return;
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") step(event.key === "ArrowLeft" ? -1 : 1);
});
strip.addEventListener("wheel", (event) => {
  if (Math.abs(event.deltaY) <= Math.abs(event.deltaX)) return;
  event.preventDefault();
  strip.scrollLeft += event.deltaY;
}, { passive: false });
watch("value", () => { // a link that was opened
  if (Number(field.value) !== props.value.index) mark(props.value.index);
});
mark(props.value.index);

// The cut between a reconstruction and the original: follows the pointer, or the arrow keys; kept by a variable of the page, since every
// frame draws the picture anew.
const root = document.documentElement;
const cut = (share) => root.style.setProperty("--cut", `${Math.round(100 * Math.min(Math.max(share, 0), 1))}%`);
document.addEventListener("pointermove", (event) => {
  const frame = event.target.closest?.(".versus")?.getBoundingClientRect();
  if (frame) cut((event.clientX - frame.left) / frame.width);
});
document.addEventListener("pointerout", (event) => {
  if (event.target.closest?.(".versus") && !event.relatedTarget?.closest?.(".versus")) cut(1);
});
document.addEventListener("keydown", (event) => {
  if (!event.target.closest?.(".versus") || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  const now = parseFloat(root.style.getPropertyValue("--cut") || "100");
  cut((now + (event.key === "ArrowLeft" ? -10 : 10)) / 100);
});

// Buttons of the panel, which every frame draws anew.
function flash(button, text) {
  const before = button.textContent;
  button.textContent = text;
  setTimeout(() => { button.textContent = before; }, 1500);
}
async function copyLink(button) {
  const link = new URL(`?${element.ownerDocument.querySelector(".view").dataset.query}`, location.href).href;
  history.replaceState(null, "", link);
  try {
    await navigator.clipboard.writeText(link);
    flash(button, "Copied");
  } catch { // no permission: the address bar has it
    flash(button, "In the address bar");
  }
}
async function downloadPanel(button) {
  flash(button, "Preparing …");
  for (const { name, type, data } of await server.download(props.value)) {
    const link = Object.assign(document.createElement("a"), { download: name, href: `data:${type};base64,${data}` });
    link.click();
  }
}
document.addEventListener("click", ({ target }) => {
  if (target.matches?.(".copy-link")) copyLink(target);
  if (target.matches?.(".download-panel")) downloadPanel(target);
});
