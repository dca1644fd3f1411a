// The address is what the page shows: picture and settings, tab, brain view. Whoever changes a part of it says so here.
window.address = {
  get: (name) => new URLSearchParams(location.search).get(name),
  // changes: name -> value, null takes it away. A push is a step that Back undoes.
  set(changes, push = false, state = history.state) {
    const url = new URL(location);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") url.searchParams.delete(name);
      else url.searchParams.set(name, value);
    }
    if (url.href === location.href) push = false;
    history[push ? "pushState" : "replaceState"](state, "", url);
  },
};
{
  const slug = (text) => text.trim().toLowerCase().replace(/[^a-z]+/g, "-");
  const tabs = () => [...document.querySelectorAll("[role=tab]")];
  const selected = () => slug(tabs().find((tab) => tab.getAttribute("aria-selected") === "true")?.textContent ?? "explore");
  const wanted = () => window.address.get("tab") ?? "explore";
  window.address.openTab = (name) => { // "explore", "your-data" …
    if (selected() !== name) tabs().find((tab) => slug(tab.textContent) === name)?.click();
  };
  const open = () => window.address.openTab(wanted()); // as the address says
  let followed = false; // the first choice is the address's
  new MutationObserver(() => {
    if (!tabs().length) return;
    if (!followed) {
      followed = true;
      return setTimeout(open);
    }
  }).observe(document, { childList: true, subtree: true });
  document.addEventListener("click", ({ target }) => {
    if (!target.closest?.("[role=tab], .overflow-dropdown")) return;
    setTimeout(() => {
      if (selected() !== wanted()) window.address.set({ tab: selected() === "explore" ? null : selected() }, true);
    }, 50);
  });
  window.addEventListener("popstate", open);
}
