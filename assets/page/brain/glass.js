// A volume seen through, as glass: from three sides, along each line of sight the strongest voxel. As slices, on a canvas.

const SIGHTS = [ // the grid's axes across and up, what stands at either end, whether the first runs from right to left
  { across: 1, up: 2, ends: ["P", "A"], mirrored: false }, // from the subject's right
  { across: 0, up: 2, ends: ["R", "L"], mirrored: true }, // from the front
  { across: 0, up: 1, ends: ["R", "L"], mirrored: true }, // from below, as an axial slice
];

// How much a voxel shows: of a value its size, of labels whether it has one; -1: hidden.
function strength(colour) {
  const { values } = state.maps[state.map] ?? {};
  return (voxel) => (!colour(voxel) ? -1 : values ? Math.abs(values[voxel]) : state.areasOf(voxel).length);
}

// What is seen along each line of sight of one side: the strongest voxel, and all that lie there.
function seenFrom(sight, voxels, strong) {
  const lines = new Map();
  for (const voxel of voxels) {
    const place = state.volume.grid[voxel];
    const [a, b] = [place[sight.across], place[sight.up]];
    const line = lines.get(key(a, b, 0)) ?? { a, b, first: voxel, all: [] };
    line.all.push(voxel);
    if (strong(voxel) > strong(line.first)) line.first = voxel;
    lines.set(key(a, b, 0), line);
  }
  const [as, bs] = ["a", "b"].map((k) => extent([...lines.values()].map((line) => line[k])));
  return { ...sight, lines, as, bs, wide: as[1] - as[0] + 1, high: bs[1] - bs[0] + 1 };
}

// The three sides beside one another, or below where that makes them larger.
function glassPlan(voxels, strong) {
  const { size } = state.volume;
  const sides = SIGHTS.map((sight) => seenFrom(sight, voxels, strong));
  const [widths, heights] = [sides.map((s) => s.wide * size[s.across]), sides.map((s) => s.high * size[s.up])];
  const [sum, most] = [(list) => list.reduce((a, b) => a + b, 0), (list) => Math.max(...list)];
  const { clientWidth, clientHeight } = $(".brain-canvas");
  const beside = Math.min((clientWidth - 3 * PAD) / sum(widths), (clientHeight - 2 * PAD) / most(heights));
  const below = Math.min((clientWidth - PAD) / most(widths), (clientHeight - 4 * PAD) / sum(heights));
  const scale = Math.min(Math.max(beside, below, SMALLEST / Math.min(...size)), LARGEST / Math.min(...size));
  let [x, y] = [PAD / 2, PAD];
  for (const [k, side] of sides.entries()) {
    Object.assign(side, { left: x, top: y, pixel: [scale * size[side.across], scale * size[side.up]] });
    if (beside >= below) x += scale * widths[k] + PAD;
    else y += scale * heights[k] + PAD;
  }
  const right = Math.max(...sides.map((s) => s.left + s.wide * s.pixel[0])) + PAD / 2;
  return { sides, width: Math.ceil(right), height: Math.ceil(Math.max(...sides.map((s) => s.top + s.high * s.pixel[1])) + 2) };
}

// Left, top, right and bottom of a line of sight, in whole pixels.
function square({ left, top, pixel, as, bs, mirrored }, a, b) {
  const [column, row] = [mirrored ? as[1] - a : a - as[0], bs[1] - b];
  return [left + column * pixel[0], top + row * pixel[1], left + (column + 1) * pixel[0], top + (row + 1) * pixel[1]].map(Math.round);
}

function glassEdges(context, side, area) {
  const inside = (line) => line?.all.some((voxel) => state.isInside(area, voxel));
  const step = side.mirrored ? -1 : 1;
  for (const line of side.lines.values()) {
    if (!inside(line)) continue;
    const { a, b } = line;
    const [x0, y0, x1, y1] = square(side, a, b);
    const edges = [[-step, 0, x0, y0, x0, y1], [step, 0, x1, y0, x1, y1], [0, 1, x0, y0, x1, y0], [0, -1, x0, y1, x1, y1]];
    for (const [da, db, ...ends] of edges) {
      if (inside(side.lines.get(key(a + da, b + db, 0)))) continue;
      context.moveTo(ends[0], ends[1]);
      context.lineTo(ends[2], ends[3]);
    }
  }
}

function labelGlass(context, { left, top, wide, pixel, ends }) {
  Object.assign(context, { fillStyle: getComputedStyle(element).getPropertyValue("--soft").trim(), font: "10px system-ui, sans-serif" });
  ends.forEach((end, k) => {
    context.textAlign = k ? "right" : "left";
    context.fillText(end, left + k * wide * pixel[0], top - 3);
  });
}

function drawGlass() {
  const [voxels, colour] = [visibleVoxels(), voxelColours()];
  const plan = glassPlan(voxels, strength(colour));
  const context = contextOf(plan.width, plan.height);
  state.plan = plan;
  for (const side of plan.sides) {
    for (const { a, b, first } of side.lines.values()) {
      const [x0, y0, x1, y1] = square(side, a, b);
      context.fillStyle = css(colour(first) || UNLABELLED);
      context.fillRect(x0, y0, x1 - x0, y1 - y0);
    }
    labelGlass(context, side);
    if (state.outlines) outlineAreas(context, (area) => glassEdges(context, side, area));
    if (!voxels.includes(state.chosen)) continue;
    const place = state.volume.grid[state.chosen];
    mark(context, square(side, place[side.across], place[side.up]));
  }
}

// The voxel that is seen under a pointer event, -1: none.
function glassVoxelAt({ offsetX, offsetY }) {
  for (const { left, top, pixel, as, bs, mirrored, lines } of state.plan.sides) {
    const [column, row] = [Math.floor((offsetX - left) / pixel[0]), Math.floor((offsetY - top) / pixel[1])];
    const line = lines.get(key(mirrored ? as[1] - column : as[0] + column, bs[1] - row, 0));
    const within = column >= 0 && row >= 0 && column <= as[1] - as[0] && row <= bs[1] - bs[0];
    if (within && line) return line.first;
  }
  return -1;
}

const CANVAS = { slices: { draw: drawSlices, at: voxelAt }, glass: { draw: drawGlass, at: glassVoxelAt } };
const onCanvas = () => state.shape in CANVAS;
const drawCanvas = () => CANVAS[state.shape].draw();
