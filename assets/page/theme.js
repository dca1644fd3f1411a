// Light or dark: the visitor's choice, or else the system's. Gradio follows the system by a class of its own, which is kept in step.
{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch { /* a frame without storage forgets the choice when it is closed */ }
  const dark = () => ({ dark: true, light: false })[chosen] ?? system.matches;
  const apply = () => {
    root.dataset.theme = dark() ? "dark" : "light";
    if (document.body && document.body.classList.contains("dark") !== dark()) document.body.classList.toggle("dark", dark());
  };
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    new MutationObserver(apply).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  });
  document.addEventListener("click", ({ target }) => {
    if (!target.closest?.(".theme-switch")) return;
    chosen = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", chosen); } catch { /* as above */ }
    apply();
  });
  apply();
}
