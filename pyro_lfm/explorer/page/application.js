// Puts the page together: source, state, panels; decodes the present point, and keeps the address up to date.
(function (lfm) {
  "use strict";

  const KEPT = 300;

  // A function of one argument whose answers are kept; errors are not.
  function remembering(ask) {
    const answers = new Map();
    return function (key) {
      if (!answers.has(key)) {
        const answer = ask(key);
        answers.set(key, answer);
        answer.catch(() => answers.delete(key));
        if (answers.size > KEPT) answers.delete(answers.keys().next().value);
      }
      return answers.get(key);
    };
  }

  function messages() {
    const [fault, status] = ["fault", "status"].map((id) => document.getElementById(id));
    const close = lfm.element(
      "button",
      { type: "button", class: "quiet", "aria-label": "Close the message", onclick: () => (fault.hidden = true) },
      "✕",
    );
    return {
      fail(error) {
        fault.replaceChildren(lfm.element("span", {}, error.message || String(error)), close);
        fault.hidden = false;
      },
      say(text) {
        fault.hidden = true;
        status.textContent = text;
      },
    };
  }

  // Decodes whenever the point changes. One request at a time; the newest point wins.
  function decodeAlways(app) {
    const { store } = app;
    let failed = false;
    function show(answer) {
      store.change({ decoded: answer.views });
      app.painted += 1;
      if (failed) app.say("The row is decoded again.");
      failed = false;
    }
    function fail(error) {
      failed = true;
      app.fail(error);
    }
    const decode = lfm.latest((point) => app.source.decode(point), show, fail);
    const request = ({ z, covariates, labels }) => decode({ z, covariates, labels });
    store.subscribe((state, before) => {
      if (["z", "covariates", "labels"].some((name) => state[name] !== before[name])) request(state);
    });
    return { request, settled: decode.settled };
  }

  function keepAddress(app) {
    let timer = 0;
    let written = null;
    app.store.subscribe(() => {
      // Browsers refuse more than some changes of the address a second.
      timer =
        timer ||
        setTimeout(() => {
          timer = 0;
          written = `#${lfm.link.write(app.store.state, app.info)}`;
          history.replaceState(null, "", written);
        }, 300);
    });
    window.addEventListener("hashchange", () => {
      if (location.hash.includes("=") && location.hash !== written) restore(app);
    });
  }

  // A point, or the point of a row, with the covariates and labels that go with it; null for null.
  async function endOf(app, given) {
    const { covariates, labels } = app.store.state;
    if (given === null) return null;
    if (Array.isArray(given)) return { name: "A point", z: given, covariates, labels, row: null };
    const encoded = await app.rowOf(given);
    const rowHas = lfm.heldBy(encoded, app.store.state);
    return { name: `Row ${given}`, z: encoded.z, ...rowHas, row: given, encoded };
  }

  // Sets the state that the address describes; without one, the first row is chosen.
  async function restore(app) {
    const { store, actions } = app;
    const asked = lfm.link.read(location.hash, app.info, store.state);
    const row = asked.row === null && asked.z === null ? 0 : asked.row;
    try {
      const [chosen, a, b] = await Promise.all([endOf(app, row), endOf(app, asked.a), endOf(app, asked.b)]);
      const known = lfm
        .projections(app.info, app.points)
        .some(({ kind, dimensions }) => kind === asked.map.kind && dimensions === asked.map.dimensions);
      if (known && asked.map.kind === "learned") await app.learnPlane();
      const { covariates, labels, z } = chosen || store.state;
      store.change({
        z: asked.z || z,
        subject: chosen && { row, name: chosen.name, encoded: chosen.encoded },
        covariates: { ...covariates, ...asked.covariates },
        labels: { ...labels, ...asked.labels },
        a,
        b,
        between: asked.between,
        map: known ? asked.map : store.state.map,
        tab: asked.tab,
        selected: asked.selected,
      });
    } catch (error) {
      app.fail(error);
    }
    await actions.colourBy(asked.colour);
  }

  function bar(app) {
    const { info } = app;
    document.title = `${info.title} · explorer`;
    document.getElementById("title").textContent = info.title;
    document.getElementById("subtitle").textContent =
      `${lfm.plural(info.rows, "row")} · ${lfm.plural(info.factors.length, "factor")}`;
    // What an exported page leaves out.
    for (const note of info.notes || []) document.getElementById("notes").append(lfm.element("li", {}, note));
    const dialog = lfm.keysDialog();
    const theme = lfm.element("button", { type: "button", class: "quiet", onclick: lfm.theme.toggle });
    const name = () => (theme.textContent = lfm.theme.dark() ? "Light" : "Dark");
    lfm.theme.onChange(name);
    name();
    const copy = lfm.element("button", { type: "button", class: "quiet", onclick: () => copyLink(app) }, "Copy link");
    const help = lfm.element(
      "button",
      { type: "button", class: "quiet", "aria-label": "Keys and gestures", onclick: () => dialog.showModal() },
      "?",
    );
    document.getElementById("bar-tools").append(copy, theme, help);
  }

  async function copyLink(app) {
    history.replaceState(null, "", `#${lfm.link.write(app.store.state, app.info)}`);
    try {
      await navigator.clipboard.writeText(location.href);
      app.say("The link is on the clipboard.");
    } catch {
      app.fail(
        new Error("This page may not write to the clipboard. Copy its address instead, which holds the same state."),
      );
    }
  }

  function tools(app) {
    const { info, source, store } = app;
    const asks = info.attributes.length > 0 && (source.can.has("generate") || source.can.has("edit"));
    const panels = [
      { name: "row", title: "Row", node: lfm.rowTool(app) },
      { name: "selection", title: "Selection", node: lfm.selectionTool(app) },
      { name: "between", title: "A to B", node: lfm.betweenTool(app) },
      asks && { name: "attributes", title: "Attributes", node: lfm.attributesTool(app) },
    ].filter(Boolean);
    const tabs = lfm.tabs("Tools", panels, (tab) => store.change({ tab }));
    document.getElementById("tools").append(tabs.node);
    store.subscribe((state) => tabs.show(state.tab));
    tabs.show(store.state.tab);
  }

  // Skip links move the focus; the hash belongs to the state.
  function skipLinks() {
    for (const link of document.querySelectorAll(".skip")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        const target = document.querySelector(link.getAttribute("href"));
        target.focus();
        target.scrollIntoView();
      });
    }
  }

  // Starts the page on a source: the server's, or what an exported page holds itself.
  lfm.start = async function (source) {
    const app = { source, painted: 0, drawn: 0, ...messages() };
    lfm.app = app;
    skipLinks();
    try {
      [app.info, app.points] = await Promise.all([source.info(), source.points()]);
    } catch (error) {
      return app.fail(error);
    }
    app.rowOf = remembering((row) => source.row(row));
    app.colourOf = remembering(async (name) =>
      lfm.withRange(
        app.info.colours.find((colour) => colour.name === name),
        (await source.colour(name)).values,
      ),
    );
    // A learned plane is computed when it is first asked for; an exported page has it, or none.
    const plane = remembering(() => source.learned());
    app.learnPlane = async () => (app.points.learned = app.points.learned || (await plane("learned")));
    app.store = lfm.createStore(lfm.initialState(app.info));
    app.actions = lfm.actions(app);
    bar(app);
    const place = (id) => document.getElementById(id);
    lfm.rowPanel(app, place("row"));
    lfm.slidersPanel(app, place("sliders"));
    app.map = lfm.mapPanel(app, place("map"));
    tools(app);
    const decoding = decodeAlways(app);
    // Resolves when nothing is asked for or waits to be drawn; for tests and timings.
    app.settled = async function () {
      do {
        await Promise.all([decoding.settled(), app.map.settled()]);
        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
      } while (app.map.busy());
    };
    keepAddress(app);
    await restore(app);
    await app.settled();
    place("main").removeAttribute("aria-busy");
  };
})((window.lfm = window.lfm || {}));
