// Any image at full size on a click, and, where an original stands in the same part of the page, a cut between the two.
{
  const dialog = Object.assign(document.createElement("dialog"), { className: "lightbox" });
  dialog.setAttribute("aria-label", "Image at full size");
  dialog.innerHTML = `<div class="lightbox-head"><h2></h2><button type="button" class="button close">Close</button></div>
    <div class="versus"><img class="top" alt=""><img class="under-cut" alt="Original"><span class="of-left"></span><span class="of-right">what was seen</span></div>
    <label class="cut">Move the line between the two<input type="range" class="slider" min="0" max="100" value="50"></label>`;
  const $ = (selector) => dialog.querySelector(selector);
  const [frame, slider] = [$(".versus"), $(".cut input")];

  function setCut(percent) {
    slider.value = Math.min(Math.max(percent, 0), 100);
    frame.style.setProperty("--cut", `${slider.value}%`);
  }
  function original(image) {
    const column = image.closest("td")?.cellIndex;
    const row = image.closest(".gallery")?.querySelector("tr.original");
    if (row) return row.cells[column]?.querySelector("img");
    return image.closest(".view, .decoded-cards, .grid")?.querySelector(".card.original img, .corner img");
  }
  function enlarge(image) {
    const behind = original(image);
    const compared = behind && behind !== image;
    $("h2").textContent = image.alt;
    $(".top").src = image.currentSrc || image.src;
    $(".top").alt = image.alt;
    $(".of-left").textContent = image.closest(".ceiling") ? "best possible" : "drawn from the brain";
    if (compared) $(".under-cut").src = behind.src;
    frame.classList.toggle("whole", !compared);
    $(".cut").hidden = !compared;
    setCut(50);
    dialog.showModal();
    if (compared) slider.focus();
  }
  slider.addEventListener("input", () => setCut(slider.valueAsNumber));
  for (const kind of ["pointerdown", "pointermove"]) {
    frame.addEventListener(kind, (event) => {
      if (kind === "pointermove" && event.pointerType !== "mouse" && !event.buttons) return;
      const { left, width } = frame.getBoundingClientRect();
      setCut((100 * (event.clientX - left)) / width);
    });
  }
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest(".close")) dialog.close();
  });
  document.addEventListener("DOMContentLoaded", () => document.body.append(dialog));
  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.(".enlarge");
    const image = button && [...button.querySelectorAll("img")].filter((i) => !i.hidden).at(-1);
    if (image) enlarge(image);
  });
}
