// What the user can do: each action changes the state of the page, some after an answer of the source.
(function (lfm) {
  "use strict";

  // The covariates and labels of an encoded row; those that it lacks stay as they are in the state.
  lfm.heldBy = function (encoded, { covariates, labels }) {
    const given = (values) =>
      Object.fromEntries(Object.entries(values || {}).filter(([, value]) => value !== null && value !== undefined));
    return {
      covariates: { ...covariates, ...given(encoded.covariates) },
      labels: { ...labels, ...given(encoded.labels) },
    };
  };

  // The present point: a row's, or wherever sliders and drags lead.
  function ofPoint(app) {
    const { info, store } = app;
    // Answers for an older choice are dropped.
    let choice = 0;

    function take(encoded, name, row = null) {
      choice++;
      store.change({ subject: { row, name, encoded }, z: encoded.z, where: null, ...lfm.heldBy(encoded, store.state) });
    }

    async function chooseRow(row) {
      const mine = ++choice;
      try {
        const encoded = await app.rowOf(row);
        if (mine !== choice) return;
        take(encoded, `Row ${row}`, row);
        app.say(`Row ${row} is chosen.`);
      } catch (error) {
        app.fail(error);
      }
    }

    // `more` may name other entries of the state to change with the point.
    function moveTo(z, more = {}) {
      choice++;
      store.change({ z, ...more });
    }

    const setFactor = (place, value) => moveTo(store.state.z.map((old, k) => (k === place ? value : old)));
    const setCovariate = (name, value) => store.change({ covariates: { ...store.state.covariates, [name]: value } });
    const setLabel = (name, code) => store.change({ labels: { ...store.state.labels, [name]: code } });
    const toMean = () =>
      moveTo(
        info.factors.map(({ mean }) => mean),
        { subject: null, where: "The mean" },
      );
    const randomRow = () => chooseRow(Math.floor(Math.random() * info.rows));
    function asEncoded() {
      const { subject } = store.state;
      if (subject) take(subject.encoded, subject.name, subject.row);
    }
    return { take, chooseRow, moveTo, setFactor, setCovariate, setLabel, toMean, randomRow, asEncoded };
  }

  function ofSelection(app) {
    const { store } = app;

    function select(rows, how) {
      const selected = rows && rows.length ? rows : null;
      store.change({ selected, tab: selected ? "selection" : store.state.tab });
      if (rows)
        app.say(
          selected ? `${lfm.plural(rows.length, "row")} selected${how ? ` by ${how}` : ""}.` : "No row lies there.",
        );
    }
    const selectNearest = (count) => select(Uint32Array.from(app.map.nearestRows(count)).sort(), "nearness");
    async function selectCategory(colour, code) {
      const { values } = await app.colourOf(colour.name);
      const rows = [];
      values.forEach((value, row) => (value === code ? rows.push(row) : null));
      select(Uint32Array.from(rows), `${colour.name} ${colour.labels[code]}`);
    }
    return { select, selectNearest, selectCategory };
  }

  // The two ends of an interpolation, and the place between them.
  function ofEnds(app, moveTo) {
    const { info, store } = app;

    function setEnd(end) {
      const { subject, z, covariates, labels, where } = store.state;
      const edited = lfm.isEdited(store.state);
      const name = subject ? `${subject.name}${edited ? ", edited" : ""}` : where || "A point";
      store.change({
        [end]: { name, z, covariates, labels, row: subject && !edited ? subject.row : null },
        between: end === "a" ? 0 : 1,
      });
    }
    function setBetween(share) {
      const { a, b } = store.state;
      const numeric = new Set(info.covariates.filter(({ kind }) => kind === "number").map(({ name }) => name));
      moveTo(null, {
        ...lfm.pointBetween(a, b, share)(numeric),
        between: share,
        subject: null,
        where: `${a.name} → ${b.name}, ${Math.round(100 * share)}%`,
      });
    }
    return { setEnd, setBetween };
  }

  // What the map shows, and how it is seen.
  function ofMap(app) {
    const { store } = app;
    const setMap = (patch) => store.change({ map: { ...store.state.map, ...patch } });
    async function chooseMap(kind, dimensions) {
      try {
        if (kind === "learned" && !app.points.learned) {
          app.map.waiting("Arranging the rows…");
          await app.learnPlane();
          app.map.recolour();
        }
        // A drag on a solid map is expected to turn it.
        const tool = store.state.tool === "lasso" ? "lasso" : dimensions === 3 ? "pan" : "explore";
        store.change({ tool, map: { ...store.state.map, kind, dimensions, zoom: 1, centre: [0, 0] } });
      } catch (error) {
        app.map.recolour();
        setMap({});
        app.fail(error);
      }
    }
    function toggleTurning() {
      store.change({ turning: !store.state.turning });
      let last = performance.now();
      const step = (now) => {
        const { turning, map } = store.state;
        if (!turning || map.dimensions !== 3) return store.change({ turning: false });
        setMap({ turn: [map.turn[0] + (now - last) * 0.0004, map.turn[1]] });
        last = now;
        requestAnimationFrame(step);
      };
      if (store.state.turning) requestAnimationFrame(step);
    }

    async function colourBy(name) {
      try {
        store.change({ colour: name });
        const asked = name === null ? { colour: null, values: null } : app.colourOf(name);
        const slow = setTimeout(() => app.map.waiting(`Computing ${name}…`), 300);
        const chosen = await Promise.resolve(asked).finally(() => clearTimeout(slow));
        if (store.state.colour === name) app.map.recolour(chosen);
      } catch (error) {
        app.map.recolour();
        app.fail(error);
      }
    }

    return { setMap, chooseMap, toggleTurning, colourBy };
  }

  lfm.actions = function (app) {
    const point = ofPoint(app);
    return { ...point, ...ofSelection(app), ...ofEnds(app, point.moveTo), ...ofMap(app) };
  };
})((window.lfm = window.lfm || {}));
