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
strip.style.setProperty("--sheet", `url(${props.sheet})`);
strip.style.setProperty("--side", `${props.side}px`);

function mark(k) {
  thumbs.forEach((thumb, other) => thumb.classList.toggle("chosen", other === k));
  field.value = k;
  if (!thumbs[k]) return;
  range.value = k;
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
document.addEventListener("settings", ({ detail }) => {
  if (JSON.stringify(detail) !== JSON.stringify(props.value.settings)) want({ settings: detail });
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
mark(props.value.index);
