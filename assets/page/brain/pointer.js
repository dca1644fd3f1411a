// What the pointer is over, and what is chosen.

const STILL = 5; // pixels a click may move
const TAP = 300; // ms until what lies under a finger is known

function describe(voxel) {
  const names = state.areasOf(voxel).map((k) => state.areaNames[k]).join(", ") || "unlabelled";
  const side = state.hemispheres.find((h) => h.voxel.includes(voxel)).name;
  const { r2, ceiling } = state.maps;
  const lines = [`R² ${number(r2.values[voxel], "%")} · noise ceiling ${number(ceiling.values[voxel], "%")}`];
  if (!["r2", "ceiling", "areas"].includes(state.map)) {
    const { label, values, unit } = state.maps[state.map];
    lines.unshift(`${label}: ${Number.isNaN(values[voxel]) ? "none, ceiling under 10 %" : number(values[voxel], unit)}`);
  }
  const head = Object.assign(document.createElement("b"), { textContent: `Voxel ${voxel} · ${names} · ${side}` });
  return [head, ...lines.map((text) => Object.assign(document.createElement("div"), { textContent: text }))];
}

function point(voxel) {
  state.hit = voxel;
  const tip = $(".brain-tip");
  tip.hidden = voxel < 0;
  if (voxel < 0) return;
  tip.replaceChildren(...describe(voxel));
  const frame = $(".brain-canvas").getBoundingClientRect();
  tip.style.left = `${Math.min(Math.max(state.pointer.x - frame.left, 130), frame.width - 130)}px`;
  tip.style.top = `${state.pointer.y - frame.top}px`;
  tip.classList.toggle("below", state.pointer.y - frame.top < 90);
}

function pointPlot({ points: [{ curveNumber, pointNumber }] }) {
  const hemisphere = shown()[curveNumber];
  if (hemisphere) point(hemisphere.voxel[pointNumber]);
}

function choose(voxel) {
  Object.assign(state, { chosen: voxel, told: "voxel" });
  $(".brain-voxel input").value = voxel;
  if (state.listens) tellAddress();
  tellOfVoxel();
  if (onCanvas()) drawCanvas();
  else requestAnimationFrame(markPlot);
}

// What is known of the chosen voxel, and on Explore its response to the image on screen.
function tellOfVoxel() {
  const index = isExplores ? Number(document.querySelector(".view")?.dataset.index ?? NaN) : NaN;
  const rois = state.areasOf(state.chosen).map((k) => state.areaNames[k]);
  trigger("click", { voxel: state.chosen, rois, ...(Number.isInteger(index) ? { index } : {}) });
}

function chooseArea(area) {
  state.area = state.area === area ? null : area;
  legend();
  if (onCanvas()) drawCanvas();
  else outlinePlot();
  if (state.area === null) return;
  state.told = "area";
  trigger("click", { roi: state.areaNames[area] });
}

function listen() {
  keepScrolling($(".brain-canvas"));
  listenToKeys($(".brain-plot"));
  const [canvas, plot, slices] = [$(".brain-canvas"), $(".brain-plot"), $(".brain-slices canvas")];
  const place = ({ clientX, clientY }) => { state.pointer = { x: clientX, y: clientY }; };
  canvas.addEventListener("pointermove", place, true);
  canvas.addEventListener("pointerdown", (event) => { place(event); state.pressed = state.pointer; }, true);
  slices.addEventListener("pointermove", (event) => point(CANVAS[state.shape].at(event)));
  slices.addEventListener("pointerleave", () => point(-1));
  slices.addEventListener("click", (event) => { point(CANVAS[state.shape].at(event)); if (state.hit >= 0) choose(state.hit); });
  plot.on("plotly_hover", pointPlot);
  plot.on("plotly_click", pointPlot);
  plot.on("plotly_unhover", () => point(-1));
  document.addEventListener("click", ({ target }) => { // a button of the inspector; of this tab's, if it is the one that is seen
    if (target.matches?.(".draw-voxel") && element.offsetParent) trigger("select", { voxel: Number(target.dataset.voxel) });
  }, { signal: state.left.signal });
  // The press may itself turn the brain: only a pointer that stood still has chosen.
  window.addEventListener("pointerup", ({ target, clientX, clientY, pointerType }) => {
    if (!plot.contains(target) || !state.pressed) return;
    const moved = Math.hypot(clientX - state.pressed.x, clientY - state.pressed.y);
    if (moved < STILL) setTimeout(() => state.hit >= 0 && choose(state.hit), pointerType === "mouse" ? 50 : TAP);
  }, { capture: true, signal: state.left.signal });
}
