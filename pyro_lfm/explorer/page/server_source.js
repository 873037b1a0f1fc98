// What the page asks, answered by the server that sent it.
(function (lfm) {
  "use strict";

  async function request(path, options) {
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      throw new Error("The server does not answer. Is the explorer still running?");
    }
    if (response.ok) return response;
    let message = `The server answered ${response.status} ${response.statusText}.`;
    try {
      message = (await response.json()).error || message;
    } catch {
      // The status says what there is to say.
    }
    throw new Error(message);
  }

  const get = async (path) => (await request(path)).json();
  const post = (path, body) =>
    request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

  // Little-endian 32-bit floats, as the server sends them.
  async function floats(path) {
    const view = new DataView(await (await request(path)).arrayBuffer());
    return Float32Array.from({ length: view.byteLength / 4 }, (_, at) => view.getFloat32(4 * at, true));
  }

  lfm.serverSource = function () {
    let info = null;
    const known = () => (info = info || get("api/info"));

    async function points() {
      const { rows, factors } = await known();
      return { latents: (await floats("api/points")).slice(0, rows * factors.length), learned: null };
    }
    async function colour(name) {
      const place = (await known()).colours.findIndex((entry) => entry.name === name);
      return { values: await floats(`api/colour/${place}`) };
    }
    const json = (name) => async (body) => (await post(`api/${name}`, body)).json();

    return {
      can: new Set(["decode", "encode", "summary", "csv", "generate", "edit", "learned"]),
      info: known,
      points,
      learned: () => floats("api/learned"),
      colour,
      row: (place) => get(`api/row/${place}`),
      decode: json("decode"),
      encode: json("encode"),
      generate: json("generate"),
      summary: (rows) => json("summary")({ rows }),
      csv: async (rows) => (await post("api/csv", { rows })).text(),
      edit: (row, attributes) => json("edit")({ ...row, attributes }),
    };
  };
})((window.lfm = window.lfm || {}));
