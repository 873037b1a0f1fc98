// The present state of the page: one object, never changed in place. Parts of the page subscribe to it.
(function (lfm) {
  "use strict";

  lfm.createStore = function (initial) {
    let state = initial;
    const listeners = [];
    return {
      get state() {
        return state;
      },
      // Listeners get the state after and before, and compare the entries that they show.
      change(patch) {
        const before = state;
        state = { ...before, ...patch };
        for (const listener of listeners) listener(state, before);
      },
      subscribe(listener) {
        listeners.push(listener);
      },
    };
  };

  // The state that the page starts with, for what `info` says of a fit.
  lfm.initialState = function (info) {
    const values = (list) => Object.fromEntries(list.map((variable) => [variable.name, variable.value]));
    return {
      z: info.factors.map((factor) => factor.mean),
      covariates: values(info.covariates),
      labels: values(info.labels),
      // Where the present point came from: {row, name, encoded}; row is null for a user's own row.
      subject: null,
      decoded: null,
      selected: null,
      a: null,
      b: null,
      between: 0,
      tool: "explore",
      tab: "row",
      // Numbers without a range are computed when they are first asked for: the user may ask.
      colour: (info.colours.find(({ kind, low }) => kind === "category" || low !== null) || { name: null }).name,
      map: { kind: "factors", dimensions: 2, axes: [0, 1, 2], turn: [0.6, 0.4], zoom: 1, centre: [0, 0] },
    };
  };

  // A row is edited once its point has left the one that the encoder gave.
  lfm.isEdited = (state) => Boolean(state.subject) && state.z !== state.subject.encoded.z;
})((window.lfm = window.lfm || {}));
