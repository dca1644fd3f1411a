// The brain signal that is decoded, run once with `element`, `props` and `watch` in scope: tells the picker by "reading" events.

const $ = (selector) => element.querySelector(selector);
const NOTHING = { repeats: null, components: null, gains: {} };
const [slider, output] = [$(".reading-components input"), $(".reading-components output")];
const counts = [];
for (let k = 1; k < props.rank; k *= 2) counts.push(k);
counts.push(null); // all
slider.max = counts.length - 1;
let state = structuredClone(NOTHING);

function tell() { // also while a slider moves: the picker sends one wish at a time
  show();
  document.dispatchEvent(new CustomEvent("reading", { detail: structuredClone(state) }));
}

const repeatButtons = [1, 2, null].map((count) => {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: count ?? "all" });
  button.title = count ? `The first ${count === 1 ? "response" : `${count} responses`} alone` : "All responses that there are";
  button.addEventListener("click", () => { state.repeats = count; tell(); });
  button.dataset.count = count;
  return button;
});
$(".reading-repeats").replaceChildren(...repeatButtons);

const gains = Object.fromEntries(props.rois.map((name) => { // a slider for each area
  const input = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 2, step: 0.1 });
  input.setAttribute("aria-label", `Strength of ${name}`);
  const set = (value) => {
    if (value === 1) delete state.gains[name];
    else state.gains[name] = value;
    tell();
  };
  input.addEventListener("input", () => set(Number(input.value)));
  input.title = `Strength of ${name}: 0 switches it off, 1 leaves it, 2 doubles it`;
  const row = document.createElement("div");
  const text = Object.assign(document.createElement("span"), { textContent: name });
  const value = document.createElement("output");
  const lesion = Object.assign(document.createElement("button"), { type: "button", textContent: "off" });
  lesion.title = `Switches ${name} off, or on again`;
  lesion.setAttribute("aria-label", `Switch ${name} off`);
  lesion.addEventListener("click", () => set(state.gains[name] === 0 ? 1 : 0));
  row.dataset.roi = name;
  row.append(text, input, value, lesion);
  return [name, { row, input, value, lesion, set }];
}));
$(".reading-gains").replaceChildren(...Object.values(gains).map(({ row }) => row));

function show() {
  repeatButtons.forEach((b) => b.setAttribute("aria-pressed", b.dataset.count === String(state.repeats)));
  slider.value = counts.indexOf(state.components);
  output.textContent = state.components ?? `all ${props.rank}`;
  for (const [name, { row, input, value, lesion }] of Object.entries(gains)) {
    const gain = state.gains[name] ?? 1;
    input.value = gain;
    value.textContent = `×${gain.toFixed(1)}`;
    lesion.setAttribute("aria-pressed", gain === 0);
    row.classList.toggle("changed", gain !== 1);
  }
  const parts = [];
  if (state.repeats) parts.push(`${state.repeats} repeat${state.repeats > 1 ? "s" : ""}`);
  if (state.components) parts.push(`${state.components} component${state.components > 1 ? "s" : ""}`);
  for (const [name, gain] of Object.entries(state.gains)) parts.push(gain === 0 ? `${name} off` : `${name} ×${gain}`);
  $(".reading-summary").textContent = parts.join(" · ") || "as measured: all repeats, all components, every area on";
}

slider.addEventListener("input", () => { state.components = counts[Number(slider.value)]; tell(); });
$(".reading-reset").addEventListener("click", () => { state = structuredClone(NOTHING); tell(); });
function restore() {
  if (!props.value) return;
  state = { ...structuredClone(NOTHING), ...props.value };
  show();
}
watch("value", restore);
restore();
show();
const left = new AbortController(); // when another subject is chosen
document.addEventListener("leaving", () => left.abort(), { once: true });
document.addEventListener("click", ({ target }) => { // the inspector's buttons
  if (!target.matches?.(".set-gain") || !element.offsetParent) return; // on a tab that is not shown, another's inspector
  gains[target.dataset.roi]?.set(Number(target.dataset.value));
  element.querySelector("details").open = true;
}, { signal: left.signal });
