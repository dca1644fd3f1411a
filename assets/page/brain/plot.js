// Surfaces and voxel centres in three dimensions, by Plotly.

const MM = 1 / 200; // scene units a millimetre
const HALF = 340; // mm from the middle to each side of the scene
const VOXEL = 4; // pixels a voxel of a volume whose centres span REACH
const REACH = 150; // mm
const VIEWS = { // eye: direction of the camera; axes: which run across, up and along the line of sight
  posterior: { label: "Posterior", eye: [0, -1, 0.1], up: [0, 0, 1], axes: [0, 2, 1] },
  ventral: { label: "Ventral", eye: [0, -0.0001, -1], up: [0, 1, 0], axes: [0, 1, 2] },
  lateral: { label: "Lateral", eye: [0, -1, 0], up: [0, 0, 1], axes: [0, 2, 1] },
  medial: { label: "Medial", eye: [0, -1, 0], up: [0, 0, 1], axes: [0, 2, 1] },
};
const ABOVE = { eye: [0, -0.0001, 1], up: [0, 1, 0], axes: [0, 1, 2] };
const FLAT_VIEWS = { visual: { label: "Visual cortex", near: true, ...ABOVE }, whole: { label: "Whole cortex", ...ABOVE } };

const views = () => (state.shape === "flat" ? FLAT_VIEWS : VIEWS);
const view = () => views()[state.view];
const isMesh = () => Boolean(state.shapes[state.shape][0].faces);

// Lowest and highest mm along x, y, z of hemispheres, or of their voxels alone.
function spans(hemispheres, near = false) {
  const counts = (h) => (_, n) => !near || (h.voxel[n] >= 0 && h.drawn.has(n));
  const placed = hemispheres.map((h) => placement(h)(h.xyz).map((column) => extent(column.filter(counts(h)))));
  return [0, 1, 2].map((k) => extent(placed.flatMap((ranges) => ranges[k])));
}

function camera() {
  const { eye, up, axes, near } = view();
  const ranges = spans(shown(), near);
  const [width, height, depth] = axes.map((k) => ranges[k][1] - ranges[k][0]);
  const { clientWidth, clientHeight } = $(".brain-plot");
  const visible = 2 * Math.tan(Math.PI / 8); // height at distance 1: the field of view is 45°
  const distance = ((state.shape === "flat" ? 1.2 : 1.08) * Math.max((width * clientHeight) / clientWidth, height)) / visible + 0.2 * depth;
  const middle = ranges.map(([low, high]) => ((low + high) / 2) * MM);
  const at = middle.map((v, k) => v + (eye[k] / Math.hypot(...eye)) * distance * MM);
  const vector = ([x, y, z]) => ({ x, y, z });
  return { eye: vector(at), up: vector(up), center: vector(middle) };
}

function vertexColours(hemisphere) {
  const colour = voxelColours();
  return hemisphere.gray.map((gray, n) => css((hemisphere.voxel[n] >= 0 && colour(hemisphere.voxel[n])) || gray));
}

function centresTrace(hemisphere) {
  const [x, y, z] = placement(hemisphere)(hemisphere.xyz);
  const span = Math.max(...spans(state.shapes[state.shape]).map(([low, high]) => high - low));
  const marker = {
    size: Math.min((VOXEL * REACH) / span, 24), symbol: "square", color: vertexColours(hemisphere), line: { width: 0 },
  };
  return { type: "scatter3d", mode: "markers", x, y, z, name: hemisphere.name, hoverinfo: "none", marker };
}

function meshTrace(hemisphere) {
  const [x, y, z] = placement(hemisphere)(hemisphere.xyz);
  const [i, j, k] = [0, 1, 2].map((corner) => hemisphere.faces.map((face) => face[corner]));
  return {
    type: "mesh3d", x, y, z, i, j, k, name: hemisphere.name, hoverinfo: "none", flatshading: false,
    vertexcolor: vertexColours(hemisphere),
    lighting: { ambient: 0.62, diffuse: 0.55, specular: 0.12, roughness: 0.55, fresnel: 0.08, vertexnormalsepsilon: 0 },
    lightposition: { x: 0, y: 400, z: 2000 },
  };
}

function outlinePoints(hemisphere, area) {
  const points = placement(hemisphere)(hemisphere.raised);
  const middle = (column, a, b) => (column[a] + column[b]) / 2;
  return points.map((column) => hemisphere.outlines[area].flatMap(([a, b, c]) =>
    [middle(column, a, b), middle(column, a, c), null]));
}

function outlineTrace(area) {
  const parts = shown().map((h) => outlinePoints(h, area));
  const [x, y, z] = [0, 1, 2].map((k) => parts.flatMap((points) => points[k]));
  const line = { color: areaColour(area), width: lineWidth(area) };
  return { type: "scatter3d", mode: "lines", x, y, z, name: state.areaNames[area], hoverinfo: "skip", line, visible: state.outlines };
}

const lineWidth = (area) => (state.area === area ? 9 : 4);

function markerPoint() {
  for (const hemisphere of shown()) {
    const n = state.chosen === null ? -1 : hemisphere.voxel.indexOf(state.chosen);
    if (n < 0 || (hemisphere.drawn && !hemisphere.drawn.has(n))) continue;
    return placement(hemisphere)(hemisphere.raised).map((column) => [column[n]]);
  }
  return [[], [], []];
}

function markerTrace() {
  const [x, y, z] = markerPoint();
  const marker = { size: 9, symbol: "circle", color: "#ffffff", line: { width: 2, color: "#000000" } };
  return { type: "scatter3d", mode: "markers", x, y, z, name: "chosen voxel", hoverinfo: "skip", marker };
}

function traces() {
  const bodies = shown().map(isMesh() ? meshTrace : centresTrace);
  const lines = isMesh() ? state.areaNames.map((_, area) => outlineTrace(area)) : [];
  return [...bodies, ...lines, markerTrace()];
}

function sideLabel(hemisphere) {
  const ranges = spans([hemisphere], view().near);
  const [across, upward, along] = view().axes;
  const at = ranges.map(([low, high]) => (low + high) / 2);
  at[upward] = ranges[upward][1] + 0.05 * (ranges[upward][1] - ranges[upward][0]);
  const font = { color: getComputedStyle(element).getPropertyValue("--soft").trim(), size: 12 };
  return { x: at[0], y: at[1], z: at[2], text: hemisphere.name, showarrow: false, font };
}

function layout() {
  const axis = { visible: false, range: [-HALF, HALF], autorange: false, showspikes: false };
  const size = 2 * HALF * MM;
  return {
    margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", showlegend: false, autosize: true, uirevision: 1,
    scene: {
      xaxis: axis, yaxis: axis, zaxis: axis, aspectmode: "manual", aspectratio: { x: size, y: size, z: size },
      camera: camera(), uirevision: `${state.shape} ${state.view} ${state.side}`, hovermode: "closest", bgcolor: "rgba(0,0,0,0)",
      dragmode: state.shape === "flat" ? "pan" : "orbit", annotations: shown().map(sideLabel),
    },
  };
}

// Plotly would draw twice as fine as the screen is, which costs a computer without a GPU half a second a drawing.
function drawPlot() {
  const config = { displayModeBar: false, responsive: true, plotGlPixelRatio: window.devicePixelRatio };
  return Plotly.react($(".brain-plot"), traces(), layout(), config);
}

function paintPlot() {
  const colours = shown().map(vertexColours);
  Plotly.restyle($(".brain-plot"), { [isMesh() ? "vertexcolor" : "marker.color"]: colours }, colours.map((_, k) => k));
}

function markPlot() {
  const [x, y, z] = markerPoint();
  Plotly.restyle($(".brain-plot"), { x: [x], y: [y], z: [z] }, [$(".brain-plot").data.length - 1]);
}

function outlinePlot() {
  if (!isMesh()) return;
  const traced = state.areaNames.map((_, k) => shown().length + k);
  const width = state.areaNames.map((_, k) => lineWidth(k));
  Plotly.restyle($(".brain-plot"), { visible: state.outlines, "line.width": width }, traced);
}
