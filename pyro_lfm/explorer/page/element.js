// Makes elements of the page. Text always goes in as text, so no name in a user's data is read as HTML.
(function (lfm) {
  "use strict";

  // element("button", {class: "quiet", onclick: f}, "Clear"): attributes that start with "on" are listeners,
  // true is an attribute without a value, and false, null and undefined leave it out.
  lfm.element = function (tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };

  let last = 0;
  // An id that no other element has, for labels and descriptions.
  lfm.freshId = (stem) => `${stem}-${++last}`;

  // Offers a file for download: a link that is clicked once.
  lfm.download = function (blob, name) {
    const link = lfm.element("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
})((window.lfm = window.lfm || {}));
