// What is read from the brain, run once with `element`, `props` and `watch` in scope: tells the picker by "reading" events.

const $ = (selector) => element.querySelector(selector);
const NOTHING = { repeats: null, components: null, gains: {} };
const [slider, output] = [$(".reading-components input"), $(".reading-components output")];
const counts = [];
for (let k = 1; k < props.rank; k *= 2) counts.push(k);
counts.push(null); // all
slider.max = counts.length - 1;
let state = structuredClone(NOTHING);
let timer = null;

function tell() { // while a slider moves, at most every 120 ms
  clearTimeout(timer);
  timer = setTimeout(() => document.dispatchEvent(new CustomEvent("reading", { detail: structuredClone(state) })), 120);
  show();
}

const repeatButtons = [1, 2, null].map((count) => {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: count ?? "all" });
  button.addEventListener("click", () => { state.repeats = count; tell(); });
  button.dataset.count = count;
  return button;
});
$(".reading-repeats").replaceChildren(...repeatButtons);

const gains = Object.fromEntries(props.rois.map((name) => {
  const input = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 2, step: 0.1 });
  input.setAttribute("aria-label", `Gain of ${name}`);
  const set = (value) => {
    if (value === 1) delete state.gains[name];
    else state.gains[name] = value;
    tell();
  };
  input.addEventListener("input", () => set(Number(input.value)));
  const label = document.createElement("label");
  const text = Object.assign(document.createElement("span"), { textContent: name });
  const value = document.createElement("output");
  label.append(text, input, value);
  label.addEventListener("dblclick", () => set(Number(input.value) === 1 ? 0 : 1));
  return [name, { label, input, value, set }];
}));
$(".reading-gains").replaceChildren(...Object.values(gains).map(({ label }) => label));

function show() {
  repeatButtons.forEach((b) => b.setAttribute("aria-pressed", b.dataset.count === String(state.repeats)));
  slider.value = counts.indexOf(state.components);
  output.textContent = state.components ?? `all ${props.rank}`;
  for (const [name, { label, input, value }] of Object.entries(gains)) {
    const gain = state.gains[name] ?? 1;
    input.value = gain;
    value.textContent = gain === 0 ? "lesion" : `×${gain.toFixed(1)}`;
    label.classList.toggle("changed", gain !== 1);
  }
  const parts = [];
  if (state.repeats) parts.push(`${state.repeats} repeat${state.repeats > 1 ? "s" : ""}`);
  if (state.components) parts.push(`${state.components} component${state.components > 1 ? "s" : ""}`);
  for (const [name, gain] of Object.entries(state.gains)) parts.push(gain === 0 ? `${name} lesioned` : `${name} ×${gain}`);
  $(".reading-summary").textContent = parts.join(" · ") || "as measured: all repeats, all components, no lesion";
}

slider.addEventListener("input", () => { state.components = counts[Number(slider.value)]; tell(); });
$(".reading-reset").addEventListener("click", () => { state = structuredClone(NOTHING); tell(); });
document.addEventListener("gain", ({ detail }) => { // an area's slider, from elsewhere on the page
  gains[detail.roi]?.set(detail.value);
  element.querySelector("details").open = true;
});
function restore() {
  if (!props.value) return;
  state = { ...structuredClone(NOTHING), ...props.value };
  show();
}
watch("value", restore);
restore();
show();
