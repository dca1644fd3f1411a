// A volume's axial slices on its own grid, one rectangle a voxel. Radiological: the subject's right is on the left.

const PAD = 14; // pixels around a slice, for its labels
const SMALLEST = 2; // pixels a voxel: with more slices than fit, the mosaic scrolls
const LARGEST = 22;

const key = (x, y, z) => (z * 65536 + y) * 65536 + x;

function readGrid(raw) {
  const grid = rows(typed(raw.grid, Uint16Array));
  return { grid, size: raw.size, at: new Map(grid.map((place, voxel) => [key(...place), voxel])) };
}

function visibleVoxels() {
  return shown().flatMap((hemisphere) => [...hemisphere.voxel]);
}

// Which slices there are, and the box that holds them all: pixels a voxel, cells a row.
function mosaic() {
  const { grid, size } = state.volume;
  const places = visibleVoxels().map((voxel) => grid[voxel]);
  const [xs, ys] = [0, 1].map((k) => extent(places.map((place) => place[k])));
  const slices = [...new Set(places.map((place) => place[2]))].sort((a, b) => a - b);
  const unit = Math.min(size[0], size[1]);
  const [across, down] = [((xs[1] - xs[0] + 1) * size[0]) / unit, ((ys[1] - ys[0] + 1) * size[1]) / unit];
  const { clientWidth, clientHeight } = $(".brain-canvas");
  const fits = (n) => Math.min((clientWidth / n - PAD) / across, (clientHeight / Math.ceil(slices.length / n) - PAD) / down);
  const best = slices.map((_, k) => k + 1).reduce((a, b) => (fits(b) > fits(a) ? b : a));
  const scale = Math.min(Math.max(fits(best), SMALLEST), LARGEST);
  const perRow = Math.max(1, Math.min(slices.length, Math.floor(clientWidth / (scale * across + PAD))));
  return { xs, ys, slices, perRow, pixel: [(scale * size[0]) / unit, (scale * size[1]) / unit], cell: [scale * across + PAD, scale * down + PAD] };
}

// Left, top, width and height of a voxel's rectangle, in whole pixels.
function rectangle([x, y, z], { xs, ys, slices, perRow, pixel, cell }) {
  const k = slices.indexOf(z);
  const left = (k % perRow) * cell[0] + PAD / 2;
  const top = Math.floor(k / perRow) * cell[1] + PAD;
  const edge = (start, n, step) => Math.round(start + n * step);
  const [column, row] = [xs[1] - x, ys[1] - y];
  const [x0, y0] = [edge(left, column, pixel[0]), edge(top, row, pixel[1])];
  return [x0, y0, edge(left, column + 1, pixel[0]) - x0, edge(top, row + 1, pixel[1]) - y0];
}

function canvasContext(plan) {
  const nRows = Math.ceil(plan.slices.length / plan.perRow);
  return contextOf(...[plan.perRow * plan.cell[0], nRows * plan.cell[1] + 2].map(Math.floor));
}

function contextOf(width, height) {
  const canvas = $(".brain-slices canvas");
  const ratio = window.devicePixelRatio || 1;
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

function drawLabels(context, plan) {
  context.fillStyle = getComputedStyle(element).getPropertyValue("--soft").trim();
  context.font = "10px system-ui, sans-serif";
  plan.slices.forEach((z, k) => {
    const [left, top] = [(k % plan.perRow) * plan.cell[0], Math.floor(k / plan.perRow) * plan.cell[1]];
    context.textAlign = "left";
    context.fillText("R", left + PAD / 2, top + 11);
    context.textAlign = "center";
    context.fillText(z, left + plan.cell[0] / 2, top + 11);
    context.textAlign = "right";
    context.fillText("L", left + plan.cell[0] - PAD / 2, top + 11);
  });
}

// The edges of a voxel's rectangle beyond which, within its slice, the area ends.
function drawEdges(context, voxel, area, plan) {
  const [x, y, z] = state.volume.grid[voxel];
  const [left, top, width, height] = rectangle([x, y, z], plan);
  const [right, bottom] = [left + width, top + height];
  const sides = [[1, 0, left, top, left, bottom], [-1, 0, right, top, right, bottom], [0, 1, left, top, right, top],
    [0, -1, left, bottom, right, bottom]];
  for (const [dx, dy, x0, y0, x1, y1] of sides) {
    const neighbour = state.volume.at.get(key(x + dx, y + dy, z));
    if (neighbour !== undefined && state.isInside(area, neighbour)) continue;
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }
}

function drawOutlines(context, plan) {
  const voxels = visibleVoxels();
  const edges = (area) => voxels.filter((v) => state.isInside(area, v)).forEach((v) => drawEdges(context, v, area, plan));
  outlineAreas(context, edges);
}

function outlineAreas(context, edges) {
  state.areaNames.forEach((_, area) => {
    context.beginPath();
    edges(area);
    Object.assign(context, { strokeStyle: areaColour(area), lineWidth: state.area === area ? 2.5 : 1.2 });
    context.stroke();
  });
}

function drawChosen(context, plan) {
  const [left, top, width, height] = rectangle(state.volume.grid[state.chosen], plan);
  mark(context, [left, top, left + width, top + height]);
}

function mark(context, [left, top, right, bottom]) {
  for (const [colour, lineWidth] of [["#000", 4], ["#fff", 2]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth });
    context.strokeRect(left - 1, top - 1, right - left + 2, bottom - top + 2);
  }
}

function drawSlices() {
  const plan = mosaic();
  const [context, colour, voxels] = [canvasContext(plan), voxelColours(), visibleVoxels()];
  state.plan = plan;
  for (const voxel of voxels) {
    context.fillStyle = css(colour(voxel) || UNLABELLED);
    context.fillRect(...rectangle(state.volume.grid[voxel], plan));
  }
  drawLabels(context, plan);
  if (state.outlines) drawOutlines(context, plan);
  if (voxels.includes(state.chosen)) drawChosen(context, plan);
}

// The voxel under a pointer event, -1: none.
function voxelAt({ offsetX, offsetY }) {
  const { xs, ys, slices, perRow, pixel, cell } = state.plan;
  const [column, row] = [Math.floor(offsetX / cell[0]), Math.floor(offsetY / cell[1])];
  const x = xs[1] - Math.floor((offsetX - column * cell[0] - PAD / 2) / pixel[0]);
  const y = ys[1] - Math.floor((offsetY - row * cell[1] - PAD) / pixel[1]);
  const voxel = state.volume.at.get(key(x, y, slices[row * perRow + column]));
  return voxel !== undefined && visibleVoxels().includes(voxel) ? voxel : -1;
}
