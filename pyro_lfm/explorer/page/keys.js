// The note on keys and gestures, which the button "?" opens.
(function (lfm) {
  "use strict";

  const NOTES = [
    [
      "Sliders",
      [
        ["Arrow keys", "move a slider by a hundredth"],
        ["Home, End", "its ends"],
        ["Double click", "its mean"],
      ],
    ],
    [
      "Map",
      [
        ["Arrow keys", "move the present point"],
        ["Shift and arrows", "move the map, turn it in 3-D"],
        ["+ − 0", "zoom in, out, show all"],
        ["Enter", "choose the nearest row"],
        ["Escape", "clear the selection"],
        ["Wheel, two fingers", "zoom"],
        ["Shift with the lasso", "a rectangle"],
      ],
    ],
    ["Anywhere", [["Drop or paste", "a picture or a row, to encode it"]]],
  ];

  lfm.keysDialog = function () {
    const close = lfm.element("button", { type: "button", onclick: () => dialog.close() }, "Close");
    const dialog = lfm.element(
      "dialog",
      { "aria-label": "Keys and gestures" },
      ...NOTES.map(([title, entries]) =>
        lfm.element(
          "section",
          {},
          lfm.element("h2", {}, title),
          lfm.element(
            "dl",
            {},
            ...entries.flatMap(([key, text]) => [lfm.element("dt", {}, key), lfm.element("dd", {}, text)]),
          ),
        ),
      ),
      close,
    );
    document.body.append(dialog);
    return dialog;
  };
})((window.lfm = window.lfm || {}));
