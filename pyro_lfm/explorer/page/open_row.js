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

  // Encodes what `read` gives, and says in words what went wrong.
  async function open(app, read, name) {
    try {
      const row = await read();
      const covariates = { ...app.store.state.covariates, ...row.covariates };
      const encoded = await app.source.encode({ views: row.views, covariates });
      app.actions.take(encoded, name);
      app.say(row.rows > 1 ? `Encoded the first of ${row.rows} rows of ${name}.` : `Encoded ${name}.`);
      if (encoded.warnings && encoded.warnings.length) app.fail(new Error(encoded.warnings.join(" ")));
    } catch (error) {
      app.fail(error);
    }
  }
  const openFile = (app, file) => open(app, () => fromFile(file, app.info), file.name);
  const openText = (app, text, name) => open(app, async () => lfm.readRow(text, app.info), name);

  // What is dropped anywhere, or pasted where no field wants it.
  function listen(app) {
    const openTransfer = (transfer, name) => {
      const [file] = transfer.files;
      const text = transfer.getData("text");
      if (file) openFile(app, file);
      else if (text.trim()) openText(app, text, name);
    };
    document.addEventListener("paste", (event) => {
      if (!event.target.closest("input, textarea")) openTransfer(event.clipboardData, "Pasted row");
    });
    const over = (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", event.type === "dragover");
    };
    for (const type of ["dragover", "dragleave", "drop"]) document.addEventListener(type, over);
    document.addEventListener("drop", (event) => openTransfer(event.dataTransfer, "Dropped row"));
  }

  function fileLine(app, pictures) {
    const chooser = lfm.element("input", {
      type: "file",
      class: "unseen",
      tabindex: -1,
      "aria-label": "Row from a file",
      onchange: () => (chooser.files[0] && openFile(app, chooser.files[0]), (chooser.value = "")),
    });
    const button = lfm.element(
      "button",
      { type: "button", onclick: () => chooser.click() },
      pictures ? "Open a picture" : "Open a row",
    );
    const hint = pictures ? "or drop one anywhere" : "as CSV, or drop one anywhere";
    return lfm.element("div", { class: "drop" }, button, chooser, lfm.element("span", { class: "muted" }, hint));
  }

  function textLine(app, pictures) {
    const text = lfm.element("textarea", {
      rows: 2,
      spellcheck: "false",
      "aria-label": "A row as text",
      placeholder: pictures
        ? "…or paste the pixels of a row"
        : "…or paste a row: values in the order of the columns, or with a line of names above",
    });
    const act = () => openText(app, text.value, "Pasted row");
    const button = lfm.element("button", { type: "button", onclick: act }, "Encode");
    return lfm.element("div", { class: "paste" }, text, button);
  }

  lfm.openRow = function (app) {
    const pictures = app.info.views.some(({ kind }) => kind === "picture");
    listen(app);
    return lfm.element("div", { class: "open-row" }, fileLine(app, pictures), textLine(app, pictures));
  };
})((window.lfm = window.lfm || {}));
