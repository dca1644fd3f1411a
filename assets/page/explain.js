// Terms that are explained on tap, and the tour: one sheet at the foot of the window, that covers nothing that it explains.
{
  const sheet = Object.assign(document.createElement("aside"), { className: "sheet", hidden: true, tabIndex: -1 });
  sheet.setAttribute("role", "dialog");
  sheet.setAttribute("aria-labelledby", "sheet-title");
  sheet.innerHTML = `<h2 id="sheet-title"></h2><p></p><div class="steps"><span></span><button type="button" class="button back">Back</button>
    <button type="button" class="button first next">Next</button></div><button type="button" class="sheet-close" aria-label="Close">✕</button>`;
  const $ = (selector) => sheet.querySelector(selector);
  let [stop, before] = [null, null]; // of the tour; what had the focus

  function show(title, words) {
    if (sheet.hidden) before = document.activeElement;
    $("h2").textContent = title;
    $("p").textContent = words;
    $(".steps").hidden = stop === null;
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
    if (to >= STOPS.length) return close();
    stop = Math.max(to, 0);
    unmark();
    const { tab, target, title, words } = STOPS[stop];
    const button = [...document.querySelectorAll("[role=tab]")].find((t) => t.textContent.trim() === tab);
    if (button?.getAttribute("aria-selected") !== "true") button?.click();
    setTimeout(() => {
      const place = [...document.querySelectorAll(target)].find((e) => e.offsetParent);
      place?.classList.add("tour-target");
      place?.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    }, 100);
    show(title, words);
    $(".steps span").textContent = `${stop + 1} of ${STOPS.length}`;
    $(".back").disabled = stop === 0;
    $(".next").textContent = stop === STOPS.length - 1 ? "Done" : "Next";
  }
  document.addEventListener("DOMContentLoaded", () => document.body.append(sheet));
  document.addEventListener("click", ({ target }) => {
    const term = target.closest?.(".term");
    if (term) { stop = null; unmark(); show(TERMS[term.dataset.term].title, TERMS[term.dataset.term].words); }
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
