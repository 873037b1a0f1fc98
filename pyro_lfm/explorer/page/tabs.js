// Tabs: one panel of several is shown. Arrow keys move between the tabs, as the ARIA practices ask for.
(function (lfm) {
  "use strict";

  // panels: [{name, title, node}]; `choose` gets the name. Returns {node, show(name)}.
  lfm.tabs = function (label, panels, choose) {
    const id = lfm.freshId("tabs");
    const tabs = panels.map(({ name, title }) =>
      lfm.element(
        "button",
        {
          type: "button",
          role: "tab",
          id: `${id}-${name}`,
          "aria-controls": `${id}-${name}-panel`,
          onclick: () => choose(name),
        },
        title,
      ),
    );
    panels.forEach(({ name, node }) => {
      Object.assign(node, { id: `${id}-${name}-panel`, tabIndex: 0 });
      node.setAttribute("role", "tabpanel");
      node.setAttribute("aria-labelledby", `${id}-${name}`);
    });
    const list = lfm.element("div", { role: "tablist", "aria-label": label, class: "tablist" }, ...tabs);
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = (tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length;
      tabs[next].focus();
      choose(panels[next].name);
      event.preventDefault();
    });

    function show(name) {
      const place = Math.max(
        0,
        panels.findIndex((panel) => panel.name === name),
      );
      panels.forEach(({ node }, at) => {
        node.hidden = at !== place;
        tabs[at].setAttribute("aria-selected", String(at === place));
        tabs[at].tabIndex = at === place ? 0 : -1;
      });
    }
    return { node: lfm.element("div", { class: "tabs" }, list, ...panels.map(({ node }) => node)), show };
  };
})((window.lfm = window.lfm || {}));
