// The cut between a reconstruction and the original: follows the pointer, or the arrow keys; kept by a variable of the page, since every
// frame draws the picture anew.
const root = document.documentElement;
let cut = 100; // percent of the reconstruction that shows
function setCut(percent) {
  cut = Math.round(Math.min(Math.max(percent, 0), 100));
  root.style.setProperty("--cut", `${cut}%`);
  document.querySelectorAll(".versus").forEach((frame) => frame.setAttribute("aria-valuenow", cut));
}
listen("pointermove", (event) => {
  const frame = event.target.closest?.(".versus")?.getBoundingClientRect();
  if (frame) setCut((100 * (event.clientX - frame.left)) / frame.width);
});
listen("pointerout", (event) => {
  if (event.target.closest?.(".versus") && !event.relatedTarget?.closest?.(".versus")) setCut(100);
});
const KEYS = { ArrowLeft: () => cut - 10, ArrowDown: () => cut - 10, ArrowRight: () => cut + 10, ArrowUp: () => cut + 10, Home: () => 0, End: () => 100 };
listen("keydown", (event) => {
  if (!event.target.closest?.(".versus") || !(event.key in KEYS)) return;
  event.preventDefault();
  setCut(KEYS[event.key]());
});

// Buttons of the panel, which every frame draws anew.
function flash(button, text) {
  const before = button.textContent;
  button.textContent = text;
  setTimeout(() => { button.textContent = before; }, 1500);
}
async function copyLink(button) {
  const link = new URL(`?${document.querySelector(".view").dataset.query}`, location.href).href;
  history.replaceState(null, "", link);
  try {
    await navigator.clipboard.writeText(link);
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
async function downloadPanel(button) {
  flash(button, "Preparing …");
  for (const { name, type, data } of await panelFiles()) {
    const link = Object.assign(document.createElement("a"), { download: name, href: `data:${type};base64,${data}` });
    link.click();
  }
}
listen("click", ({ target }) => {
  if (target.matches?.(".copy-link")) copyLink(target);
  if (target.matches?.(".download-panel")) downloadPanel(target);
});
