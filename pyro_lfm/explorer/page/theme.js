// Dark and light: the system's choice until the user toggles it. Canvases ask here for the colours of the style sheet.
(function (lfm) {
  "use strict";

  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const KEY = "lfm-explorer-theme";
  const listeners = [];

  // Storage may be forbidden, as in a page from disk or a private window; then the choice lasts as long as the page.
  function remembered() {
    try {
      return window.localStorage.getItem(KEY);
    } catch {
      return null;
    }
  }

  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  function set(theme) {
    root.dataset.theme = theme;
    try {
      window.localStorage.setItem(KEY, theme);
    } catch {
      // Nothing is lost but the memory of it.
    }
    listeners.forEach((listener) => listener());
  }

  // The colours of the page as [r, g, b]: a hidden element resolves each variable under the present theme.
  function colours() {
    const probe = lfm.element("span", { hidden: true });
    // Canvases keep their colours where the system forces its own on text.
    probe.style.forcedColorAdjust = "none";
    document.body.append(probe);
    const read = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe)
        .color.match(/[\d.]+/g)
        .slice(0, 3)
        .map(Number);
    };
    const result = {};
    for (const name of ["ink", "muted", "faint", "line", "plot", "accent"]) result[name] = read(name);
    probe.remove();
    return result;
  }

  if (["dark", "light"].includes(remembered())) root.dataset.theme = remembered();
  system.addEventListener("change", () => listeners.forEach((listener) => listener()));

  lfm.theme = {
    dark,
    colours,
    toggle: () => set(dark() ? "light" : "dark"),
    onChange: (listener) => listeners.push(listener),
    calm: () => window.matchMedia("(prefers-reduced-motion: reduce)").matches,
  };
})((window.lfm = window.lfm || {}));
