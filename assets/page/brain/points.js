// Where vertices and voxel centres are, and where a view puts them.

const GAP = 12; // mm between the hemispheres
const RAISED = 0.7; // mm by which lines and the marker stand above the surface

const typed = (text, Type) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const columns = (array) => [0, 1, 2].map((k) => Array.from({ length: array.length / 3 }, (_, n) => array[3 * n + k]));
const rows = (array) => Array.from({ length: array.length / 3 }, (_, n) => array.subarray(3 * n, 3 * n + 3));

function extent(values) {
  return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

// Of every vertex: the sum of the normals of its faces, made one unit long.
function normals([x, y, z], faces) {
  const sum = [x, y, z].map((column) => new Float64Array(column.length));
  for (const [a, b, c] of faces) {
    const [u, v] = [b, c].map((p) => [x[p] - x[a], y[p] - y[a], z[p] - z[a]]);
    [0, 1, 2].forEach((k) => {
      const [i, j] = [(k + 1) % 3, (k + 2) % 3];
      const part = u[i] * v[j] - u[j] * v[i];
      for (const p of [a, b, c]) sum[k][p] += part;
    });
  }
  const length = Array.from(x, (_, n) => Math.hypot(sum[0][n], sum[1][n], sum[2][n]) || 1);
  return sum.map((column) => column.map((v, n) => v / length[n]));
}

function sulcalGray(sulcus) {
  return Array.from(typed(sulcus, Float32Array), (s) => {
    const level = 150 - 34 * Math.tanh(2.2 * s);
    return [level, level + 2, level + 8];
  });
}

function readHemisphere(name, raw) {
  const voxel = typed(raw.voxel, Int32Array);
  return { name, voxel, gray: raw.sulcus ? sulcalGray(raw.sulcus) : Array.from(voxel, () => UNLABELLED) };
}

function readCentres(hemisphere, raw) {
  const xyz = columns(typed(raw.coordinates, Float32Array));
  return { ...hemisphere, xyz, raised: xyz };
}

function readSurface(hemisphere, raw) {
  const xyz = columns(typed(raw.coordinates, Float32Array));
  const faces = rows(typed(raw.faces, Uint16Array));
  const up = normals(xyz, faces);
  const raised = xyz.map((column, k) => column.map((v, n) => v + RAISED * up[k][n]));
  const outlines = raw.outlines.map((text) => rows(typed(text, Uint16Array)));
  return { ...hemisphere, xyz, raised, faces, drawn: new Set(faces.flatMap((face) => [...face])), outlines };
}

function shown() {
  return state.shapes[state.shape].filter(({ name }) => state.side === "both" || state.side === name);
}

// A function that moves columns x, y, z as the view wants. Lateral and medial views open the brain like a book seen from behind:
// both lateral or both medial sides face the camera.
function placement(hemisphere) {
  const side = hemisphere.name === "left" ? -1 : 1;
  const turn = { medial: side, lateral: -side }[state.view] ?? 0;
  const turned = ([x, y, z]) => (turn ? [y.map((v) => -turn * v), x.map((v) => turn * v), z] : [x, y, z]);
  if (!hemisphere.faces && !turn) return turned;
  const [low, high] = extent(turned(hemisphere.xyz)[0]);
  const shift = side < 0 ? -GAP / 2 - high : GAP / 2 - low;
  return (points) => turned(points).map((column, k) => (k ? column : column.map((v) => v + shift)));
}
