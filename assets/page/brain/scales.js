// The brain view: its parts are joined into one script, run once with `element`, `props`, `server`, `trigger` and `watch` in scope.
// Colours and numbers.

const STOPS = {
  inferno: ["#000004", "#1b0c41", "#4a0c6b", "#781c6d", "#a52c60", "#cf4446", "#ed6925", "#fb9b06", "#f7d13d", "#fcffa4"],
  viridis: ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
  cividis: ["#fee838", "#e1cc55", "#c3b369", "#a59c74", "#8a8678", "#707173", "#575d6d", "#3b496c", "#123570", "#00224e"],
  diverging: ["#cbeefe", "#79c4f2", "#3897d9", "#1e6caa", "#25436a", "#1f1f22", "#6e2f25", "#af4829", "#de7334", "#f8ab64",
    "#ffe4bf"], // lightness in equal steps from the middle to both ends
};
const AREA_COLOURS = ["#4e9bf0", "#35c2b0", "#8fd14f", "#f2c14e", "#f0883e", "#ee5d6c", "#d36bd6", "#9a7bf0", "#c7a27c",
  "#7fd6f2", "#f5a3c7", "#b9c46a"];
const UNLABELLED = [92, 98, 114];

const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
const css = (colour) => `rgb(${colour.map(Math.round).join(",")})`;
const areaColour = (k) => AREA_COLOURS[k % AREA_COLOURS.length];

function colourScale(stops) {
  const table = stops.map(rgb);
  return (share) => {
    const at = Math.min(Math.max(share, 0), 1) * (table.length - 1);
    const k = Math.min(Math.floor(at), table.length - 2);
    return table[k].map((c, i) => c + (table[k + 1][i] - c) * (at - k));
  };
}

function isHidden(voxel) {
  const { r2, q } = state.maps;
  return (state.threshold > 0 && !(r2.values[voxel] >= state.threshold)) || (state.significant && !(q.values[voxel] < 0.05));
}

function areaColours() {
  const colours = AREA_COLOURS.map(rgb);
  return (voxel) => {
    const first = state.areasOf(voxel)[0];
    return first === undefined ? UNLABELLED : colours[first % colours.length];
  };
}

function valueColours({ values, low, high, scale }) {
  const colour = colourScale(STOPS[scale]);
  return (voxel) => (Number.isNaN(values[voxel]) ? null : colour((values[voxel] - low) / (high - low)));
}

// A function from a voxel to its colour; null: nothing to show.
function voxelColours() {
  const colour = state.map === "areas" ? areaColours() : valueColours(state.maps[state.map]);
  return (voxel) => (isHidden(voxel) ? null : colour(voxel));
}

function number(value, unit) {
  const text = value.toFixed(unit === "%" ? 1 : Math.abs(value) < 0.1 ? 3 : 2).replace("-", "−");
  return unit === "%" ? `${text} %` : unit === "z" ? `z = ${text}` : text;
}
