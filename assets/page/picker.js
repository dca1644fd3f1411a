// The strip of thumbnails, what it shows and in which order, and how to move in it.

const n = props.n_images;
const catalogue = JSON.parse(props.catalogue);
const [field, strip, sort] = [$(".picker-number"), $(".picker-strip"), $(".picker-sort")];

const thumbs = Array.from({ length: n }, (_, k) => {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "thumb", tabIndex: -1 });
  const [column, row] = [k % props.columns, Math.floor(k / props.columns)];
  button.style.backgroundPosition = `${-column * props.side}px ${-row * props.side}px`;
  button.dataset.index = k;
  button.title = `${k}: ${catalogue.words[k].split("\n")[0]}`;
  button.setAttribute("aria-label", `Test picture ${k}`);
  button.addEventListener("click", () => choose(k));
  return button;
});
strip.replaceChildren(...thumbs);
let shown = thumbs.map((_, k) => k); // pictures in the strip, in their order
strip.style.setProperty("--side", `${props.side}px`);

async function paint() { // once the page is there; a blob, since every button would parse a data URI anew
  const bytes = Uint8Array.from(atob((await server.thumbnails(null)).split(",")[1]), (c) => c.charCodeAt(0));
  const sheet = URL.createObjectURL(new Blob([bytes], { type: "image/webp" }));
  left.signal.addEventListener("abort", () => URL.revokeObjectURL(sheet));
  strip.style.setProperty("--sheet", `url(${sheet})`);
}
paint();

function mark(k) { // one thumbnail is in the order of Tab: the chosen one, or the first
  thumbs.forEach((thumb, other) => {
    thumb.classList.toggle("chosen", other === k);
    thumb.setAttribute("aria-pressed", other === k);
    thumb.tabIndex = other === (shown.includes(k) ? k : shown[0]) ? 0 : -1;
  });
  field.value = k;
  if (!thumbs[k]?.isConnected) return;
  strip.scrollTo({ left: thumbs[k].offsetLeft - strip.clientWidth / 2 + props.side / 2, behavior: "smooth" });
}

function choose(k) {
  queue("");
  mark(k);
  want({ index: k, settings: seeded(props.value.settings) });
}

// Filter and order. A picture's words are its captions and its labels.
const shuffled = (list) => { // seeded: the same order at every visit
  let seed = 1;
  const random = () => ((seed = (seed * 16807) % 2147483647) - 1) / 2147483646;
  return list.map((k) => [random(), k]).sort((a, b) => a[0] - b[0]).map(([, k]) => k);
};
const ORDERS = { index: (list) => list, random: shuffled };
const LABELS = { index: "by number", random: "shuffled" };
for (const [name, values] of Object.entries(catalogue.scores)) {
  for (const [best, word] of [[1, "best"], [-1, "worst"]]) {
    ORDERS[`${word} ${name}`] = (list) => list.filter((k) => values[k] !== null).sort((a, b) => best * (values[b] - values[a]));
    LABELS[`${word} ${name}`] = `${word} ${name}`;
  }
}
sort.replaceChildren(...Object.entries(LABELS).map(([value, text]) => new Option(text, value)));

const facets = Object.entries(catalogue.facets).map(([name, values]) => {
  const select = document.createElement("select");
  const known = [...new Set(values)].filter(Boolean).sort();
  select.replaceChildren(new Option(name, ""), ...known.map((value) => new Option(value, value)));
  select.setAttribute("aria-label", `Only pictures of this ${name}`);
  Object.assign(select, { className: `picker-${name}`, title: `Only pictures of this ${name}` });
  select.addEventListener("change", arrange);
  return { select, fits: (k) => !select.value || values[k] === select.value };
});
$(".picker-facets").replaceChildren(...facets.map(({ select }) => select));
$(".picker-unseen").hidden = !catalogue.unseen.some(Boolean);

function arrange() {
  const wanted = $(".picker-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const unseenOnly = $(".picker-unseen input").checked;
  const fits = (k) => wanted.every((word) => catalogue.words[k].includes(word)) && facets.every((facet) => facet.fits(k))
    && (!unseenOnly || catalogue.unseen[k]);
  shown = ORDERS[sort.value](thumbs.map((_, k) => k).filter(fits));
  strip.replaceChildren(...shown.map((k) => thumbs[k]));
  strip.dataset.empty = shown.length === 0;
  mark(props.value.index);
  if (!shown.includes(props.value.index)) strip.scrollTo({ left: 0 });
  paged();
}

// Where the strip stands, in pictures; its arrows go as many on as are in sight.
function paged() {
  const pitch = shown.length > 1 ? thumbs[shown[1]].offsetLeft - thumbs[shown[0]].offsetLeft : props.side;
  const first = Math.min(Math.round(strip.scrollLeft / pitch), Math.max(shown.length - 1, 0));
  const last = Math.min(first + Math.floor((strip.clientWidth + 4) / pitch), shown.length);
  $(".picker-count").textContent = shown.length ? `${first + 1}–${last} / ${shown.length}` : "none";
}
const page = (by) => strip.scrollBy({ left: by * (strip.clientWidth - props.side), behavior: "smooth" });
$(".picker-back").addEventListener("click", () => page(-1));
$(".picker-on").addEventListener("click", () => page(1));
strip.addEventListener("scroll", paged);
new ResizeObserver(paged).observe(strip);

function step(by) {
  if (!shown.length) return;
  const at = shown.indexOf(props.value.index);
  choose(shown[at < 0 ? 0 : (at + by + shown.length) % shown.length]);
}
$(".picker-filter").addEventListener("input", arrange);
$(".picker-unseen input").addEventListener("change", arrange);
sort.addEventListener("change", arrange);
field.addEventListener("change", () => {
  const k = field.valueAsNumber;
  if (Number.isInteger(k) && k >= 0 && k < n) return choose(k);
  queue(`There is no picture ${field.value || "without a number"}: expected a whole number from 0 to ${n - 1}.`);
  field.value = props.value.index;
});
$(".picker-previous").addEventListener("click", () => step(-1));
$(".picker-next").addEventListener("click", () => step(1));
$(".picker-random").addEventListener("click", () => step(1 + Math.floor(Math.random() * Math.max(shown.length - 1, 1))));
listen("keydown", (event) => { // ← → wherever they mean nothing else
  const typing = event.target.closest?.("input, textarea, select, [role=tab], [role=radiogroup], [role=radio], .brain-canvas, dialog, .sheet");
  if (typing || event.altKey || event.ctrlKey || event.metaKey || !element.offsetParent) return;
  if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  event.preventDefault();
  step(event.key === "ArrowLeft" ? -1 : 1);
  if (strip.contains(event.target)) thumbs[props.value.index].focus({ preventScroll: true });
});
listen("click", ({ target }) => { // thumbnails elsewhere on the page
  const index = target.closest?.(".open-picture")?.dataset.index;
  if (index === undefined) return;
  window.address.openTab("explore");
  choose(Number(index));
});
watch("value", () => { // a link that was opened, Back, or a preset
  if (Number(field.value) !== props.value.index) mark(props.value.index);
});
arrange();
