// The picker, run once with `element`, `props` and `trigger` in scope. `value` is the number of the chosen picture.

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
strip.style.setProperty("--sheet", `url(${props.sheet})`);
strip.style.setProperty("--side", `${props.side}px`);

function mark(k) {
  thumbs.forEach((thumb, other) => thumb.classList.toggle("chosen", other === k));
  field.value = k;
  if (!thumbs[k]) return;
  range.value = k;
  strip.scrollTo({ left: thumbs[k].offsetLeft - strip.clientWidth / 2 + props.side / 2, behavior: "smooth" });
}

// One request at a time: the newest choice waits for the running one to end, those between are dropped.
let running = false;
let wanted = null;

function send() {
  running = true;
  props.value = wanted;
  wanted = null;
  trigger("input");
}

function choose(k) {
  mark(k);
  wanted = k;
  if (!running) send();
}

document.addEventListener("reconstructed", () => {
  running = false;
  if (wanted !== null) send();
});

const step = (by) => choose((Number(range.value) + by + n) % n);
range.addEventListener("input", () => mark(Number(range.value)));
range.addEventListener("change", () => choose(Number(range.value)));
field.addEventListener("change", () => Number.isInteger(field.valueAsNumber) && choose(field.valueAsNumber));
$(".picker-previous").addEventListener("click", () => step(-1));
$(".picker-next").addEventListener("click", () => step(1));
$(".picker-random").addEventListener("click", () => step(1 + Math.floor(Math.random() * (n - 1))));
strip.addEventListener("wheel", (event) => {
  if (Math.abs(event.deltaY) <= Math.abs(event.deltaX)) return;
  event.preventDefault();
  strip.scrollLeft += event.deltaY;
}, { passive: false });
mark(Number(props.value));
