// Rows of the user's own: a picture or a table dropped anywhere, chosen as a file, or pasted as text.
(function (lfm) {
  "use strict";

  const LARGEST_TEXT = 8e6;

  const nothing = (view) =>
    new Array(view.kind === "picture" ? view.shape.reduce((a, b) => a * b, 1) : view.columns.length).fill(null);

  async function fromFile(file, info) {
    const text = /\.(csv|tsv|txt|json)$/i.test(file.name) || file.type.startsWith("text/");
    const place = info.views.findIndex(({ kind }) => kind === "picture");
    if (text) {
      if (file.size > LARGEST_TEXT)
        throw new Error(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB; a row of text may have 8 MB.`);
      return lfm.readRow(await file.text(), info);
    }
    if (place < 0) throw new Error(`${file.name} is not a row as text. The model reads a table: choose a CSV file.`);
    const values = await lfm.readPicture(file, info.views[place]);
    return { views: info.views.map((view, at) => (at === place ? values : nothing(view))), covariates: {}, rows: 1 };
  }

  lfm.openRow = function (app) {
    const { info, actions } = app;

    // Encodes what `read` gives, and says in words what went wrong.
    async function open(read, name) {
      try {
        const row = await read();
        const covariates = { ...app.store.state.covariates, ...row.covariates };
        const encoded = await app.source.encode({ views: row.views, covariates });
        actions.take(encoded, name);
        app.say(row.rows > 1 ? `Encoded the first of ${row.rows} rows of ${name}.` : `Encoded ${name}.`);
        if (encoded.warnings && encoded.warnings.length) app.fail(new Error(encoded.warnings.join(" ")));
      } catch (error) {
        app.fail(error);
      }
    }
    const openFile = (file) => open(() => fromFile(file, info), file.name);

    const chooser = lfm.element("input", {
      type: "file",
      class: "unseen",
      tabindex: -1,
      "aria-label": "Row from a file",
      onchange: () => (chooser.files[0] && openFile(chooser.files[0]), (chooser.value = "")),
    });
    const pictures = info.views.some(({ kind }) => kind === "picture");
    const text = lfm.element("textarea", {
      rows: 2,
      spellcheck: "false",
      "aria-label": "A row as text",
      placeholder: pictures
        ? "…or paste the pixels of a row"
        : "…or paste a row: values in the order of the columns, or with a line of names above",
    });
    const node = lfm.element(
      "div",
      { class: "open-row" },
      lfm.element(
        "div",
        { class: "drop" },
        lfm.element(
          "button",
          { type: "button", onclick: () => chooser.click() },
          pictures ? "Open a picture" : "Open a row",
        ),
        chooser,
        lfm.element("span", { class: "muted" }, pictures ? "or drop one anywhere" : "as CSV, or drop one anywhere"),
      ),
      lfm.element(
        "div",
        { class: "paste" },
        text,
        lfm.element(
          "button",
          { type: "button", onclick: () => open(async () => lfm.readRow(text.value, info), "Pasted row") },
          "Encode",
        ),
      ),
    );

    // A picture or text on the clipboard, unless it is meant for a field.
    document.addEventListener("paste", (event) => {
      if (event.target.closest("input, textarea")) return;
      const [file] = event.clipboardData.files;
      const pasted = event.clipboardData.getData("text");
      if (file) openFile(file);
      else if (pasted.trim()) open(async () => lfm.readRow(pasted, info), "Pasted row");
    });
    const over = (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", event.type === "dragover");
    };
    for (const type of ["dragover", "dragleave", "drop"]) document.addEventListener(type, over);
    document.addEventListener("drop", (event) => {
      const [file] = event.dataTransfer.files;
      const dropped = event.dataTransfer.getData("text");
      if (file) openFile(file);
      else if (dropped) open(async () => lfm.readRow(dropped, info), "Dropped row");
    });
    return node;
  };
})((window.lfm = window.lfm || {}));
