// The panel with the images, which every frame draws anew: the steps to look through, what is unfolded, its buttons.
const view = () => document.querySelector(".view");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// The layout and the image after every step, as addresses of images.
function stepsShown() {
  const layout = view().querySelector(".way .card.chosen img");
  return [layout, ...view().querySelectorAll(".filmstrip img")].filter(Boolean).map(({ src }) => src);
}
function showStep(k) {
  const [played, all] = [view().querySelector(".played"), stepsShown()];
  if (!played) return;
  const last = all.length - 1;
  played.hidden = k >= last;
  if (k < last) played.src = all[k];
  view().querySelector(".scrubber").value = k;
  view().querySelector(".scrub output").textContent = k === 0 ? "rough layout" : `step ${k} of ${last}`;
}
let playing = null;
function replay() {
  clearInterval(playing);
  const [{ serial }, n] = [view().dataset, stepsShown().length]; // of one drawing: the next one ends it
  let k = 0;
  showStep(0);
  playing = setInterval(() => {
    k += 1;
    if (view()?.dataset.serial !== serial || k >= n) return clearInterval(playing);
    showStep(k);
  }, 550);
}
listen("input", ({ target }) => {
  if (!target.matches?.(".scrubber")) return;
  clearInterval(playing);
  showStep(target.valueAsNumber);
});
let played = false; // once, for whoever arrives
listen("reconstructed", () => {
  if (played || !view()?.querySelector(".played")) return;
  played = true;
  if (!calm.matches) replay();
});

// What a visitor unfolds stays unfolded in the next frame.
let unfolded = false;
document.addEventListener("toggle", ({ target }) => {
  if (target.matches?.(".more")) unfolded = target.open;
}, { capture: true, signal: left.signal });
const redrawn = new MutationObserver(() => {
  const more = document.querySelector(".more");
  if (more && more.open !== unfolded) more.open = unfolded;
});
redrawn.observe(document.body, { childList: true, subtree: true });
left.signal.addEventListener("abort", () => redrawn.disconnect());

function flash(button, text) {
  const before = button.textContent;
  button.textContent = text;
  setTimeout(() => { button.textContent = before; }, 1500);
}
async function copyLink(button) {
  try {
    await navigator.clipboard.writeText(location.href);
    flash(button, "Copied");
  } catch { // no permission: the address bar has it
    flash(button, "In the address bar");
  }
}
// What the server no longer remembers, or was not finished, waits for its turn first.
async function panelFiles() {
  for (let attempt = 0; attempt < 3; attempt++) {
    const files = await server.download(props.value);
    if (files) return files;
    const done = new Promise((resolve) => document.addEventListener("reconstructed", resolve, { once: true, signal: left.signal }));
    if (running === null) want({});
    await done;
  }
  return [];
}
function save({ name, type, data }) {
  Object.assign(document.createElement("a"), { download: name, href: `data:${type};base64,${data}` }).click();
}
async function downloadPanel(button) {
  flash(button, "Preparing …");
  (await panelFiles()).forEach(save);
}
async function downloadResponse(button) {
  flash(button, "Preparing …");
  const file = await server.response(props.value);
  if (file) save(file);
}
listen("click", ({ target }) => {
  if (target.matches?.(".copy-link")) copyLink(target);
  if (target.matches?.(".download-panel")) downloadPanel(target);
  if (target.matches?.(".download-response")) downloadResponse(target);
  if (target.matches?.(".replay")) replay();
});
