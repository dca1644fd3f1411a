// The brain view, run once with `element`, `props`, `server` and `watch` in scope.
// The mesh and the score maps are fetched once; afterwards only `value`, one picture's response map, changes.

const STOPS = {
  inferno: ["#000004", "#1b0c41", "#4a0c6b", "#781c6d", "#a52c60", "#cf4446", "#ed6925", "#fb9b06", "#f7d13d", "#fcffa4"],
  diverging: ["#b5e2ff", "#56aef0", "#2c6fb3", "#1e3a5a", "#17181d", "#5a2424", "#b0433a", "#ef8150", "#ffd0a0"],
};
const AREA_COLOURS = ["#4e9bf0", "#35c2b0", "#8fd14f", "#f2c14e", "#f0883e", "#ee5d6c", "#d36bd6", "#9a7bf0", "#c7a27c",
  "#7fd6f2", "#f5a3c7", "#b9c46a"];
const UNLABELLED = [92, 98, 114];
const MM = 1 / 200; // scene units a millimetre
const VOXEL = 4; // pixels a voxel of a volume that fills the views
const REACH = 75; // mm from its middle to the farthest voxel of such a volume
const HALF = 260; // mm from the middle to each side of the scene
const VIEWS = { // eye: direction of the camera; width, height, depth: mm of what it sees
  left: { label: "Left", eye: [-1, 0, 0], up: [0, 0, 1], width: 216, height: 147, depth: 90 },
  right: { label: "Right", eye: [1, 0, 0], up: [0, 0, 1], width: 216, height: 147, depth: 90 },
  posterior: { label: "Posterior", eye: [0, -1, 0.1], up: [0, 0, 1], width: 178, height: 147, depth: 60 },
  ventral: { label: "Ventral", eye: [0, -0.0001, -1], up: [0, 1, 0], width: 178, height: 216, depth: 60 },
  medial: { label: "Medial", eye: [0, -1, 0], up: [0, 0, 1], width: 446, height: 147, depth: 45, open: true },
};
const CHOICES = { r2: "R²", ceiling: "Noise ceiling", ratio: "R² / ceiling", response: "This picture", areas: "Areas" };
const HELP = {
  r2: "Test variance of each voxel that the encoding model predicts. Colours start at 0; negative values are in the hover text.",
  ceiling: "Variance that the picture can explain at all; the rest is noise between repeats. Same scale as R².",
  ratio: "R² as a share of what is explainable. Voxels with a ceiling under 10 % are gray.",
  response: "Mean response to the chosen picture: all that ridge and MLP know of it.",
  areas: "Visual areas; overlapping areas show the first one, the hover text names all.",
};

const $ = (selector) => element.querySelector(selector);
const typed = (text, Type) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
const css = (colour) => `rgb(${colour.map(Math.round).join(",")})`;
const state = { show: "r2", view: "posterior" };

function colourScale(stops) {
  const table = stops.map(rgb);
  return (share) => {
    const at = Math.min(Math.max(share, 0), 1) * (table.length - 1);
    const k = Math.min(Math.floor(at), table.length - 2);
    return table[k].map((c, i) => c + (table[k + 1][i] - c) * (at - k));
  };
}

function readMap(payload) {
  return { ...payload, values: typed(payload.values, Float32Array) };
}

function readHemisphere(name, raw) {
  const xyz = typed(raw.coordinates, Float32Array);
  const column = (array, k) => Array.from({ length: array.length / 3 }, (_, n) => array[3 * n + k]);
  const voxel = typed(raw.voxel, Int32Array);
  const points = { name, xyz: [0, 1, 2].map((k) => column(xyz, k)), voxel };
  if (!raw.faces) return { ...points, gray: Array.from(voxel, () => UNLABELLED) }; // a volume's voxel centres
  const faces = typed(raw.faces, Uint16Array);
  const gray = Array.from(typed(raw.sulcus, Float32Array), (s) => {
    const level = 150 - 34 * Math.tanh(2.2 * s);
    return [level, level + 2, level + 8];
  });
  return { ...points, faces: [0, 1, 2].map((k) => column(faces, k)), gray };
}

// Opens the brain like a book seen from behind: both medial walls face the camera.
function placed(hemisphere, open) {
  const [x, y, z] = hemisphere.xyz;
  if (!open) return [x, y, z];
  const side = hemisphere.name === "left" ? -1 : 1;
  return [y.map((v) => side * (115 - v)), x.map((v) => side * v - 45), z];
}

function voxelColours() {
  const n = state.areaNames.length;
  if (state.show === "areas") {
    const colours = AREA_COLOURS.map(rgb);
    return (voxel) => {
      const first = state.areasOf(voxel)[0];
      return first === undefined ? UNLABELLED : colours[first % Math.min(colours.length, Math.max(n, 1))];
    };
  }
  const { values, low, high, scale } = state.maps[state.show];
  const colour = colourScale(STOPS[scale]);
  return (voxel) => (Number.isNaN(values[voxel]) ? null : colour((values[voxel] - low) / (high - low)));
}

function vertexColours(hemisphere) {
  const colour = voxelColours();
  return hemisphere.gray.map((gray, n) => css((hemisphere.voxel[n] >= 0 && colour(hemisphere.voxel[n])) || gray));
}

function camera(name) {
  const view = VIEWS[name];
  const { clientWidth, clientHeight } = $(".brain-plot");
  const visible = 2 * Math.tan(Math.PI / 8); // height at distance 1: the field of view is 45°
  const whole = 1.06 * Math.max((view.width * clientHeight) / clientWidth, view.height) / visible + view.depth;
  const distance = whole * (view.open ? 1 : state.share);
  const length = Math.hypot(...view.eye);
  const [x, y, z] = view.eye.map((v) => (v / length) * distance * MM);
  const [ux, uy, uz] = view.up;
  return { eye: { x, y, z }, up: { x: ux, y: uy, z: uz }, center: { x: 0, y: 0, z: 0 } };
}

// Along one axis, in mm from the middle to the farthest voxel of a volume.
function reach() {
  return state.hemispheres.flatMap((h) => h.xyz.flat()).reduce((far, v) => Math.max(far, Math.abs(v)), 0);
}

function trace(hemisphere) {
  const [x, y, z] = placed(hemisphere, VIEWS[state.view].open);
  if (!hemisphere.faces) {
    const marker = { size: VOXEL / state.share, symbol: "square", color: vertexColours(hemisphere), line: { width: 0 } };
    return { type: "scatter3d", mode: "markers", x, y, z, name: hemisphere.name, hoverinfo: "none", marker };
  }
  const [i, j, k] = hemisphere.faces;
  return {
    type: "mesh3d", x, y, z, i, j, k, name: hemisphere.name, hoverinfo: "none", flatshading: false,
    vertexcolor: vertexColours(hemisphere),
    lighting: { ambient: 0.62, diffuse: 0.55, specular: 0.12, roughness: 0.55, fresnel: 0.08, vertexnormalsepsilon: 0 },
    lightposition: { x: 0, y: 400, z: 2000 },
  };
}

function layout() {
  const axis = { visible: false, range: [-HALF, HALF], autorange: false, showspikes: false };
  const size = 2 * HALF * MM;
  return {
    margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", showlegend: false, autosize: true, uirevision: 1,
    scene: {
      xaxis: axis, yaxis: axis, zaxis: axis, aspectmode: "manual", aspectratio: { x: size, y: size, z: size },
      camera: camera(state.view), dragmode: "orbit", hovermode: "closest", bgcolor: "rgba(0,0,0,0)",
    },
  };
}

function number(value, unit) {
  const text = value.toFixed(unit === "%" ? 1 : 2).replace("-", "−");
  return unit === "%" ? `${text} %` : text;
}

function legend() {
  $(".brain-help").textContent = HELP[state.show];
  const box = $(".brain-scale");
  if (state.show === "areas") {
    const entries = state.areaNames.map((name, k) => [name, AREA_COLOURS[k % AREA_COLOURS.length]]);
    entries.push(["unlabelled", css(UNLABELLED)]);
    box.replaceChildren(...entries.map(([name, colour]) => {
      const entry = document.createElement("span");
      entry.className = "area";
      entry.append(Object.assign(document.createElement("i"), { style: `background:${colour}` }), name);
      return entry;
    }));
    return;
  }
  const { title, unit, low, high, scale } = state.maps[state.show];
  const tick = (share) => {
    const value = low + share * (high - low);
    const bound = share === 0 ? "≤ " : share === 1 ? "≥ " : "";
    return `<span>${high === 100 ? "" : bound}${String(value).replace("-", "−")}</span>`;
  };
  box.innerHTML = `<b>${title} <small>${unit === "z" ? "z-score" : unit}</small></b>
    <div class="bar" style="background:linear-gradient(90deg,${STOPS[scale].join(",")})"></div>
    <div class="ticks">${[0, 0.25, 0.5, 0.75, 1].map(tick).join("")}</div>`;
}

function describe(hemisphere, voxel) {
  const names = state.areasOf(voxel).map((k) => state.areaNames[k]).join(", ") || "unlabelled visual cortex";
  const { r2, ceiling } = state.maps;
  const lines = [`R² ${number(r2.values[voxel], "%")} · noise ceiling ${number(ceiling.values[voxel], "%")}`];
  if (state.show === "response" || state.show === "ratio") {
    const { title, values, unit } = state.maps[state.show];
    const missing = Number.isNaN(values[voxel]);
    lines.unshift(`${title}: ${missing ? "none, ceiling under 10 %" : (unit === "z" ? "z = " : "") + number(values[voxel], unit)}`);
  }
  const head = Object.assign(document.createElement("b"), { textContent: `${names} · ${hemisphere.name} hemisphere` });
  return [head, ...lines.map((text) => Object.assign(document.createElement("div"), { textContent: text }))];
}

function hover(event) {
  const { curveNumber, pointNumber } = event.points[0];
  const hemisphere = state.hemispheres[curveNumber];
  const voxel = hemisphere.voxel[pointNumber];
  const tip = $(".brain-tip");
  tip.hidden = voxel < 0;
  if (voxel < 0) return;
  tip.replaceChildren(...describe(hemisphere, voxel));
  const frame = $(".brain-plot").getBoundingClientRect();
  tip.style.left = `${Math.min(Math.max(state.pointer.x - frame.left, 120), frame.width - 120)}px`;
  tip.style.top = `${state.pointer.y - frame.top}px`;
  tip.classList.toggle("below", state.pointer.y - frame.top < 90);
}

function press(group, name) {
  element.querySelectorAll(`.${group} button`).forEach((b) => b.setAttribute("aria-pressed", b.dataset.name === name));
}

function paint() {
  legend();
  const colours = state.hemispheres.map(vertexColours);
  if (state.plot) Plotly.restyle(state.plot, { [state.hemispheres[0].faces ? "vertexcolor" : "marker.color"]: colours });
}

function look(name) {
  const moved = Boolean(VIEWS[name].open) !== Boolean(VIEWS[state.view].open);
  state.view = name;
  press("brain-views", name);
  const columns = state.hemispheres.map((h) => placed(h, VIEWS[name].open));
  const data = moved ? { x: columns.map((c) => c[0]), y: columns.map((c) => c[1]) } : {};
  Plotly.update(state.plot, data, { "scene.camera": camera(name) });
}

function buttons(group, entries, current, act) {
  $(`.${group}`).replaceChildren(...Object.entries(entries).map(([name, label]) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    button.dataset.name = name;
    button.addEventListener("click", () => act(name));
    return button;
  }));
  press(group, current);
}

function say(sentence) {
  element.querySelector(".brain").classList.add("broken");
  $(".brain-message").textContent = sentence;
}

function receive() {
  state.maps.response = readMap(JSON.parse(props.value));
  if (state.show === "response") paint();
}

function loadScript(source) {
  return new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: source, onload: resolve });
    script.onerror = () => reject(new Error("the plotting library did not load"));
    document.head.append(script);
  });
}

async function start() {
  state.started = true;
  if (!document.createElement("canvas").getContext("webgl")) {
    say("This browser offers no WebGL, so the brain cannot be drawn here; the reconstructions work without it.");
    return;
  }
  const [{ geometry, maps }] = await Promise.all([server.brain_data(null), loadScript(props.plotly)]);
  const { names, members } = geometry.areas;
  const inside = typed(members, Uint8Array);
  const nVoxels = names.length ? inside.length / names.length : 0;
  state.areaNames = names;
  state.areasOf = (voxel) => names.map((_, k) => k).filter((k) => inside[k * nVoxels + voxel]);
  state.maps = Object.fromEntries(Object.entries(maps).map(([name, payload]) => [name, readMap(payload)]));
  state.hemispheres = Object.entries(geometry.hemispheres).map(([name, raw]) => readHemisphere(name, raw));
  state.share = state.hemispheres[0].faces ? 1 : Math.min(1, reach() / REACH);
  buttons("brain-maps", CHOICES, state.show, (name) => { state.show = name; press("brain-maps", name); paint(); });
  buttons("brain-views", Object.fromEntries(Object.entries(VIEWS).map(([k, v]) => [k, v.label])), state.view, look);
  receive();
  legend();
  const plot = $(".brain-plot");
  plot.addEventListener("pointermove", (event) => { state.pointer = { x: event.clientX, y: event.clientY }; });
  await Plotly.newPlot(plot, state.hemispheres.map(trace), layout(), { displayModeBar: false, responsive: true });
  state.plot = plot;
  plot.on("plotly_hover", hover);
  plot.on("plotly_unhover", () => { $(".brain-tip").hidden = true; });
  plot.on("plotly_webglcontextlost", () => say("The graphics context was lost: reload the page to draw the brain again."));
  receive();
  element.querySelector(".brain").dataset.ready = "true";
}

// The pictures come first: the brain is drawn after the frame that brought its values has been painted.
function update() {
  requestAnimationFrame(() => setTimeout(() => {
    if (!state.started) start().catch((error) => say(`The brain could not be drawn: ${error.message}`));
    else if (state.hemispheres) receive();
  }));
}

watch("value", update);
if (props.value) update();
