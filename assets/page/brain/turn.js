// The brain is turned by keys and fingers, and comes nearer by keys and the wheel; the page keeps its own scrolling.

const STEP = Math.PI / 18; // by which a key turns it
const NEARER = 0.85; // what is left of the distance
const KEYS = {
  ArrowLeft: () => turn(-STEP, 0), ArrowRight: () => turn(STEP, 0), ArrowUp: () => turn(0, STEP), ArrowDown: () => turn(0, -STEP),
  "+": () => approach(NEARER), "=": () => approach(NEARER), "-": () => approach(1 / NEARER), 0: () => drawPlot(),
};
const plus = (a, b, factor = 1) => a.map((v, k) => v + factor * b[k]);
const dot = (a, b) => a.reduce((sum, v, k) => sum + v * b[k], 0);
const cross = (a, b) => [0, 1, 2].map((k) => a[(k + 1) % 3] * b[(k + 2) % 3] - a[(k + 2) % 3] * b[(k + 1) % 3]);
const scaled = (a, factor) => a.map((v) => v * factor);
const unit = (a) => scaled(a, 1 / (Math.hypot(...a) || 1));

// What is looked at, from where, and which way is up: as Plotly has it now, however it came there.
function lookout() {
  const { eye, center, up } = $(".brain-plot")._fullLayout.scene._scene.getCamera();
  const [from, middle, upward] = [eye, center, up].map(({ x, y, z }) => [x, y, z]);
  return { middle, offset: plus(from, middle, -1), up: unit(upward) };
}

function look({ middle, offset, up }) {
  const vector = ([x, y, z]) => ({ x, y, z });
  const camera = { eye: vector(plus(middle, offset)), center: vector(middle), up: vector(up) };
  return Plotly.relayout($(".brain-plot"), { "scene.camera": camera });
}

// By two angles: about the upward axis, and over the brain, which stays upright. A flat map is moved instead.
function turn(across, over) {
  const { middle, offset, up } = lookout();
  const distance = Math.hypot(...offset);
  const right = unit(cross(up, offset));
  if (state.shape === "flat") return look({ middle: plus(plus(middle, right, across * distance), up, over * distance), offset, up });
  const height = Math.asin(Math.max(-1, Math.min(1, dot(offset, up) / distance)));
  const level = Math.max(-1.5, Math.min(1.5, height + over));
  const ahead = cross(right, up);
  const around = plus(scaled(ahead, Math.cos(across)), right, Math.sin(across));
  return look({ middle, offset: plus(scaled(around, Math.cos(level) * distance), up, Math.sin(level) * distance), up });
}

function approach(share) {
  const { middle, offset, up } = lookout();
  return look({ middle, offset: scaled(offset, share), up });
}

// Plotly takes every turn of the wheel and every touch. It gets the wheel with Ctrl or ⌘, or when the brain fills the window; a
// finger that moves sideways turns the brain, and one that moves up or down scrolls the page.
function keepScrolling(canvas) {
  const free = () => brain().classList.contains("whole");
  canvas.addEventListener("wheel", (event) => {
    if (!free() && !event.ctrlKey && !event.metaKey) event.stopPropagation();
  }, { capture: true, passive: true });
  let last = null; // place of the one finger that turns the brain, or might
  let turns = false;
  canvas.addEventListener("touchstart", (event) => {
    if (free()) return;
    event.stopPropagation();
    last = event.touches.length === 1 ? event.touches[0] : null;
    turns = false;
  }, { capture: true, passive: true });
  canvas.addEventListener("touchmove", (event) => {
    if (free()) return;
    event.stopPropagation();
    if (!last || onCanvas()) return;
    const [now] = event.touches;
    const [across, along] = [Math.abs(now.clientX - last.clientX), Math.abs(now.clientY - last.clientY)];
    if (!turns && along >= across) { // it scrolls, to its end
      last = null;
      return;
    }
    turns = true;
    if (event.cancelable) event.preventDefault();
    turn(((last.clientX - now.clientX) / canvas.clientWidth) * Math.PI, 0);
    last = now;
  }, { capture: true, passive: false });
  canvas.addEventListener("touchend", (event) => free() || event.stopPropagation(), true);
}

function listenToKeys(plot) {
  plot.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    KEYS[event.key]();
  });
}
