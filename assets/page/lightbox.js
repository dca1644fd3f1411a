// Any image at full size on a click, and, where an original stands in the same part of the page, a cut between the two.
{
  const image = (className) => make("img", { className, alt: "" });
  const dialog = make("dialog", { className: "lightbox", ariaLabel: "Image at full size" },
    make("div", { className: "lightbox-head" }, make("h2"), make("button", { type: "button", className: "button close" }, "Close")),
    make("div", { className: "versus" }, image("top"), image("under-cut"), make("span", { className: "of-left" }),
      make("span", { className: "of-right" }, "what was seen")),
    make("label", { className: "cut" }, "Move the line between the two",
      make("input", { type: "range", className: "slider", min: 0, max: 100, value: 50 })));
  const $ = (selector) => dialog.querySelector(selector);
  const [frame, slider] = [$(".versus"), $(".cut input")];

  const DRAWN = { ceiling: "best possible", nearest_training: "a training picture" }; // what was not drawn from the brain

  function setCut(percent) {
    slider.value = Math.min(Math.max(percent, 0), 100);
    frame.style.setProperty("--cut", `${slider.value}%`);
  }
  function original(shown) {
    const column = shown.closest("td")?.cellIndex;
    const row = shown.closest(".gallery")?.querySelector("tr.original");
    if (row) return row.cells[column]?.querySelector("img");
    return shown.closest(".view, .decoded-cards, .grid")?.querySelector(".card.original img, .corner img, .card.silence img");
  }
  function enlarge(shown) {
    const behind = original(shown);
    const compared = behind && behind !== shown;
    $("h2").textContent = shown.alt;
    $(".top").src = shown.src;
    $(".top").alt = shown.alt;
    const kind = Object.keys(DRAWN).find((name) => shown.closest(`.${name}`));
    $(".of-left").textContent = DRAWN[kind] ?? "drawn from the brain";
    $(".of-right").textContent = behind?.closest(".silence") ? "drawn from silence" : "what was seen";
    $(".under-cut").alt = $(".of-right").textContent;
    if (compared) $(".under-cut").src = behind.src;
    frame.classList.toggle("whole", !compared);
    $(".cut").hidden = !compared;
    setCut(50);
    if (!dialog.isConnected) document.body.append(dialog);
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
  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.(".enlarge");
    const shown = button && [...button.querySelectorAll("img")].filter((i) => !i.hidden).at(-1);
    if (shown) enlarge(shown);
  });
}
