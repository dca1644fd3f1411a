// What can be chosen beside the map.

const SHAPES = {
  surface: { inflated: "Inflated", flat: "Flat", pial: "Pial" },
  volume: { slices: "Slices", glass: "Glass", centres: "3-D" },
  points: { centres: "3-D" },
};
const SIDES = { both: "Both", left: "Left", right: "Right" };

function press(group, name) {
  element.querySelectorAll(`.${group} button`).forEach((b) => b.setAttribute("aria-pressed", b.dataset.name === name));
}

function buttons(group, entries, current, act) {
  $(`.${group}`).replaceChildren(...Object.entries(entries).map(([name, label]) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    button.dataset.name = name;
    button.addEventListener("click", () => attempt(act(name)));
    return button;
  }));
  press(group, current);
}

// Of the shape shown; a view that it lacks gives way to its first one.
function viewButtons() {
  const labels = Object.fromEntries(Object.entries(views()).map(([name, { label }]) => [name, label]));
  if (!(state.view in labels)) [state.view] = Object.keys(labels);
  buttons("brain-views", labels, state.view, (name) => { state.view = name; press("brain-views", name); return draw(); });
  $(".brain-views").classList.toggle("unused", onCanvas());
}

function areaButton(name, area) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.dataset.name = name;
  button.setAttribute("aria-pressed", state.area === area);
  button.append(Object.assign(document.createElement("i"), { style: `background:${areaColour(area)}` }), name);
  button.addEventListener("click", () => chooseArea(area));
  return button;
}

// Round numbers within [low, high], about four steps apart.
function roundTicks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.99);
  const first = Math.ceil(low / step - 1e-6);
  return Array.from({ length: Math.floor(high / step + 1e-6) - first + 1 }, (_, k) => (first + k) * step);
}

// Name and unit, the colours, and round numbers under them; the ends say whether values lie beyond.
function scaleBar({ label, unit, low, high, scale }) {
  const tick = (value) => {
    const share = (value - low) / (high - low);
    const bound = share < 0.001 && low < 0 ? "≤ " : share > 0.999 && high !== 100 ? "≥ " : "";
    const text = `${bound}${String(Number(value.toPrecision(6)))}`.replace("-", "−");
    return Object.assign(document.createElement("span"), { textContent: text, style: `left:${100 * share}%` });
  };
  const background = `linear-gradient(90deg,${STOPS[scale].join(",")})`;
  const named = unit === "%" ? `${label}, %` : unit === "z" ? `${label}, standard deviations` : label;
  const name = Object.assign(document.createElement("p"), { className: "scale-name", textContent: named });
  const bar = Object.assign(document.createElement("div"), { className: "bar", style: `background:${background}` });
  const ticks = Object.assign(document.createElement("div"), { className: "ticks" });
  ticks.append(...roundTicks(low, high).map(tick));
  return [name, bar, ticks];
}

function offTheFlatMap() {
  const here = (h) => h.voxel.filter((voxel, n) => voxel >= 0 && !h.drawn.has(n)).length;
  return shown().reduce((sum, h) => sum + here(h), 0);
}

function help() {
  const areas = "Areas by colour; where they overlap the first one shows, the hover text names all.";
  const shape = {
    flat: () => `${offTheFlatMap()} voxels lie on its cuts and are not on the flat map.`,
    slices: () => "The subject’s own grid, subject’s right on the left.",
    glass: () => "Seen through from three sides: along each line of sight the strongest voxel. Subject’s right on the left.",
  }[state.shape];
  return `${state.map === "areas" ? areas : state.maps[state.map].note} ${shape ? shape() : ""} ${state.note}`;
}

function legend() {
  const focused = document.activeElement?.dataset?.name;
  $(".brain-help").textContent = help();
  $(".brain-scale").replaceChildren(...(state.map === "areas" ? [] : scaleBar(state.maps[state.map])));
  $(".brain-legend").replaceChildren(...state.areaNames.map(areaButton));
  if (focused) $(`.brain-legend [data-name="${CSS.escape(focused)}"]`)?.focus();
}

function threshold(value) {
  state.threshold = value;
  $(".brain-threshold output").textContent = value ? `${value} %` : "off";
  soon();
}

async function onlySignificant(checked) {
  if (checked) await fetchMap("q");
  state.significant = checked;
  paint();
}

function options(maps) {
  const entries = [...maps, ["response", props.response], ["areas", "ROI labels"]];
  $(".brain-map").replaceChildren(...entries.map(([name, label]) => new Option(label, name)));
  $(".brain-map").value = state.map;
  $(".brain-map").addEventListener("change", ({ target }) => attempt(showMap(target.value)));
}

function controls(kind, maps) {
  options(maps);
  buttons("brain-shapes", SHAPES[kind], state.shape, showShape);
  buttons("brain-sides", SIDES, state.side, (name) => { state.side = name; press("brain-sides", name); return draw(); });
  $(".brain-threshold input").addEventListener("input", ({ target }) => threshold(target.valueAsNumber));
  $(".brain-significant").hidden = !maps.some(([name]) => name === "q");
  $(".brain-significant input").addEventListener("change", ({ target }) => attempt(onlySignificant(target.checked)));
  $(".brain-outlines input").addEventListener("change", ({ target }) => { state.outlines = target.checked; outlines(); });
  const field = Object.assign($(".brain-voxel input"), { max: state.nVoxels - 1 });
  field.addEventListener("change", () => field.value && field.reportValidity() && choose(field.valueAsNumber));
}
