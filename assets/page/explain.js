// Terms that are explained on tap, and the tour: one sheet at the foot of the window, that covers nothing that it explains.
{
  const button = (className, text) => make("button", { type: "button", className }, text);
  const sheet = make("aside", { className: "sheet", hidden: true, tabIndex: -1, role: "dialog" },
    make("h2", { id: "sheet-title" }), make("p"),
    make("div", { className: "steps" }, make("span"), button("button back", "Back"), button("button first next", "Next")),
    Object.assign(button("sheet-close", "✕"), { ariaLabel: "Close" }));
  sheet.setAttribute("aria-labelledby", "sheet-title");
  const $ = (selector) => sheet.querySelector(selector);
  let [stop, before] = [null, null]; // of the tour; what had the focus

  function show(title, words) {
    if (sheet.hidden) before = document.activeElement;
    if (!sheet.isConnected) document.body.append(sheet);
    $("h2").textContent = title;
    $("p").textContent = words;
    $(".steps").style.display = stop === null ? "none" : "";
    sheet.hidden = false;
    sheet.focus({ preventScroll: true });
  }
  function close() {
    sheet.hidden = true;
    stop = null;
    unmark();
    before?.focus?.({ preventScroll: true });
  }
  const unmark = () => document.querySelectorAll(".tour-target").forEach((e) => e.classList.remove("tour-target"));

  function go(to) {
    if (to >= WORDS.STOPS.length) return close();
    stop = Math.max(to, 0);
    unmark();
    const { tab, target, title, words } = WORDS.STOPS[stop];
    const opens = [...document.querySelectorAll("[role=tab]")].find((t) => t.textContent.trim() === tab);
    if (opens?.getAttribute("aria-selected") !== "true") opens?.click();
    setTimeout(() => {
      const place = [...document.querySelectorAll(target)].find((e) => e.offsetParent);
      place?.classList.add("tour-target");
      place?.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    }, 100);
    show(title, words);
    $(".steps span").textContent = `${stop + 1} of ${WORDS.STOPS.length}`;
    $(".back").disabled = stop === 0;
    $(".next").textContent = stop === WORDS.STOPS.length - 1 ? "Done" : "Next";
  }
  document.addEventListener("click", ({ target }) => {
    const term = target.closest?.(".term");
    if (term) { stop = null; unmark(); show(WORDS.TERMS[term.dataset.term].title, WORDS.TERMS[term.dataset.term].words); }
    else if (target.closest?.(".start-tour")) go(0);
    else if (target.closest?.(".sheet .next")) go(stop + 1);
    else if (target.closest?.(".sheet .back")) go(stop - 1);
    else if (target.closest?.(".sheet-close") || (stop === null && !sheet.hidden && !target.closest?.(".sheet"))) close();
  });
  document.addEventListener("keydown", (event) => {
    if (sheet.hidden) return;
    if (event.key === "Escape") close();
    if (stop === null || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    go(stop + (event.key === "ArrowRight" ? 1 : -1));
  }, { capture: true });
}
