// Fetching, drawing, and the beginning. Geometry comes once, a surface or a map when it is first shown.

const $ = (selector) => element.querySelector(selector);
const state = {
  map: props.first, shape: "", view: "posterior", side: "both", threshold: 0, significant: false, outlines: true, chosen: null, area: null,
  hit: -1, pointer: { x: 0, y: 0 }, maps: {}, shapes: {}, left: new AbortController(),
};
document.addEventListener("leaving", () => state.left.abort(), { once: true }); // when another subject is chosen

const brain = () => element.querySelector(".brain"); // null while the page is laid out anew

function say(sentence) {
  brain().classList.add("broken");
  $(".brain-message").textContent = sentence;
}

function attempt(work) {
  Promise.resolve(work).catch((error) => { $(".brain-help").textContent = `That did not work: ${error.message}`; });
}

function readMap(payload) {
  return { ...payload, values: typed(payload.values, Float32Array) };
}

async function fetchMap(name) {
  if (!(name in state.maps)) state.maps[name] = readMap(await server.brain_map(name));
}

async function fetchShape(name) {
  if (name in state.shapes) return;
  const raw = await server.brain_surface(name);
  state.shapes[name] = state.hemispheres.map((h) => readSurface(h, raw[h.name]));
}

// The newest choice wins, in whatever order the answers come.
async function showMap(name) {
  state.wantedMap = name;
  if (name !== "areas") await fetchMap(name);
  if (state.wantedMap !== name) return;
  state.map = name;
  paint();
}

async function showShape(name) {
  state.wantedShape = name;
  if (state.kind === "surface") await fetchShape(name);
  if (state.wantedShape !== name) return;
  state.shape = name;
  press("brain-shapes", name);
  viewButtons();
  await draw();
}

async function draw() {
  $(".brain-plot").hidden = onCanvas();
  $(".brain-slices").hidden = !onCanvas();
  legend();
  if (onCanvas()) drawCanvas();
  else await drawPlot();
  settled();
}

function paint() {
  legend();
  if (onCanvas()) drawCanvas();
  else paintPlot();
  settled();
}

// At most one painting a frame, however fast a slider moves.
function soon() {
  if (state.waiting) return;
  state.waiting = true;
  requestAnimationFrame(() => { state.waiting = false; if (brain()) paint(); });
}

function outlines() {
  if (onCanvas()) drawCanvas();
  else outlinePlot();
}

function settled() {
  if (!brain()) return;
  Object.assign(brain().dataset, { map: state.map, shape: state.shape });
  $(".brain-save").hidden = state.map === "areas";
  if (state.listens) tellAddress();
}

function receive() {
  if (!props.value) return;
  state.maps.response = readMap(JSON.parse(props.value));
  if (state.map === "response" && state.shape) paint();
}

function loadScript(source) {
  if (window.Plotly) return null;
  return new Promise((resolve, reject) => {
    const root = new URL(window.gradio_config?.root ?? ".", document.baseURI).pathname.replace(/\/$/, ""); // a proxy's prefix
    const script = Object.assign(document.createElement("script"), { src: `${root}/${source}`, onload: resolve });
    script.onerror = () => reject(new Error("the plotting library did not load"));
    document.head.append(script);
  });
}

function readGeometry({ kind, areas, hemispheres, note, ...volume }) {
  const inside = typed(areas.members, Uint8Array);
  const read = Object.entries(hemispheres).map(([name, raw]) => readHemisphere(name, raw));
  const nVoxels = areas.n_voxels; // more than are drawn, of a surface finer than the one drawn
  const isInside = (area, voxel) => Boolean(inside[area * nVoxels + voxel]);
  const areasOf = (voxel) => areas.names.map((_, k) => k).filter((k) => isInside(k, voxel));
  Object.assign(state, { kind, note: note ?? "", areaNames: areas.names, hemispheres: read, nVoxels, isInside, areasOf });
  if (kind === "surface") return;
  state.shapes.centres = read.map((h) => readCentres(h, hemispheres[h.name]));
  if (kind === "points") return;
  state.volume = readGrid(volume);
  state.shapes.slices = state.shapes.glass = state.shapes.centres;
}

async function start() {
  state.started = true;
  if (!document.createElement("canvas").getContext("webgl")) {
    say("This browser offers no WebGL, so the brain cannot be drawn here; all else works without it.");
    return;
  }
  const [geometry] = await Promise.all([server.brain_geometry(null), loadScript(props.plotly), fetchMap("r2"), fetchMap("ceiling")]);
  if (geometry.kind === "nowhere") {
    say("This subject came without the places of its voxels, so no brain is drawn; everything else works without them.");
    brain().dataset.ready = "true";
    return;
  }
  readGeometry(geometry);
  state.maps.response = readMap(JSON.parse(props.value));
  const wanted = wantedOf(geometry.maps);
  state.shape = wanted.shape ?? Object.keys(SHAPES[state.kind])[0];
  Object.assign(state, { side: wanted.side ?? state.side, view: wanted.view ?? state.view });
  if (state.kind === "surface") await fetchShape(state.shape);
  controls(state.kind, geometry.maps);
  viewButtons();
  const plot = $(".brain-plot");
  await drawPlot();
  const purge = () => Plotly.purge(plot); // it would draw on, and keep its graphics contexts
  if (state.left.signal.aborted) return purge();
  state.left.signal.addEventListener("abort", purge);
  listen();
  listenToSize(plot);
  if (isExplores) listenToImages();
  files();
  plot.on("plotly_webglcontextlost", () => say("The graphics context was lost: reload the page to draw the brain again."));
  new ResizeObserver(() => onCanvas() && drawCanvas()).observe($(".brain-canvas"));
  await draw();
  await follow(wanted);
  state.listens = true;
  brain().dataset.ready = "true";
}

// The pictures come first: the brain is drawn after the frame that brought its values has been painted.
function update() {
  requestAnimationFrame(() => setTimeout(() => {
    if (!brain()) return;
    if (!state.started) start().catch((error) => say(`The brain could not be drawn: ${error.message}`));
    else receive();
  }));
}

watch("value", update);
if (props.value) update();
