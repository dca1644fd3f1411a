// The brain in the whole window; what of it stands in the address; and files of it.

function enlarge(whole) {
  const button = $(".brain-enlarge");
  brain().classList.toggle("whole", whole);
  document.documentElement.classList.toggle("under-whole", whole);
  button.textContent = whole ? "Close" : "Enlarge";
  button.setAttribute("aria-expanded", whole);
  if (!whole) button.focus();
}

function listenToSize(plot) {
  $(".brain-enlarge").addEventListener("click", () => enlarge(!brain().classList.contains("whole")));
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape" && element.querySelector(".brain.whole")) enlarge(false);
  }, { signal: state.left.signal });
  new ResizeObserver(() => onCanvas() || !plot.clientWidth || Plotly.Plots.resize(plot)).observe(plot);
}

// Explore's brain is a part of the address, the parts of it that are not as they are at first.
const isExplores = props.first === "r2";
const FIRST = { map: "r2", side: "both", view: "posterior" };

function tellAddress() {
  if (!isExplores || !window.address) return;
  const first = { ...FIRST, shape: Object.keys(SHAPES[state.kind])[0] };
  if (state.shape === "flat") [first.view] = Object.keys(FLAT_VIEWS);
  const part = (name) => (state[name] === first[name] ? null : state[name]);
  window.address.set({ map: part("map"), shape: part("shape"), side: part("side"), view: part("view"), voxel: state.chosen });
}

// What the address wants, as far as there is such a thing here.
function wantedOf(maps) {
  if (!isExplores || !window.address) return {};
  const { get } = window.address;
  const one = (name, known) => (known.includes(get(name)) ? { [name]: get(name) } : {});
  const kinds = [...maps.map(([name]) => name), "response", "areas"];
  const views = Object.keys({ ...VIEWS, ...FLAT_VIEWS });
  const voxel = Number(get("voxel") ?? NaN);
  const chosen = Number.isInteger(voxel) && voxel >= 0 && voxel < state.nVoxels ? { voxel } : {};
  return { ...one("map", kinds), ...one("shape", Object.keys(SHAPES[state.kind])), ...one("side", Object.keys(SIDES)), ...one("view", views), ...chosen };
}

async function follow({ map, voxel }) {
  if (map) {
    await showMap(map);
    $(".brain-map").value = map;
  }
  if (voxel === undefined) return;
  brain().dataset.followed = "true"; // the inspector opens where it is
  choose(voxel);
}

// Another image: what the inspector says of its response is told anew.
function listenToImages() {
  const onScreen = () => document.querySelector(".view")?.dataset.index;
  let index = onScreen(); // the first image may have ended before the brain was there
  document.addEventListener("reconstructed", () => {
    const before = index;
    index = onScreen();
    if (index === before || state.told !== "voxel") return;
    brain().dataset.followed = "true";
    tellOfVoxel();
  }, { signal: state.left.signal });
}

function save(name, href) {
  Object.assign(document.createElement("a"), { download: name, href }).click();
}

async function savePicture() {
  const name = `${state.map}_${state.shape}.png`;
  if (onCanvas()) return save(name, $(".brain-slices canvas").toDataURL());
  return save(name, await Plotly.toImage($(".brain-plot"), { format: "png", scale: 2 }));
}

// The values of a response are sent along: no other map changes with the picture.
async function saveMap(kind) {
  const { values } = state.maps[state.map];
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const text = state.map === "response" ? btoa(bytes.reduce((all, byte) => all + String.fromCharCode(byte), "")) : null;
  const { name, type, data } = await server.brain_file({ map: state.map, kind, values: text });
  save(name, `data:${type};base64,${data}`);
}

const FILES = { surface: { csv: "CSV", gifti: "GIfTI" }, volume: { csv: "CSV", nifti: "NIfTI" }, points: { csv: "CSV" } };

function files() {
  const button = (label, act) => {
    const made = Object.assign(document.createElement("button"), { type: "button", className: "button", textContent: label });
    made.addEventListener("click", () => attempt(act()));
    return made;
  };
  const maps = Object.entries(FILES[state.kind]).map(([kind, label]) => button(label, () => saveMap(kind)));
  $(".brain-files").replaceChildren(...maps, button("PNG", savePicture));
}
