// lfm.graph: runs a graph of ONNX operators, written as JSON by pyro_lfm/explorer/exported/graph_document.py.
//
// A graph is {inputs: [{name, type, shape}], outputs: [name], tensors: {name: reference}, nodes: [{op, inputs, outputs,
// attributes}]}. References and blocks of bytes are those of lfm.arrays.
(function (lfm) {
  "use strict";

  const operators = {
    ...lfm.elementwiseOperators,
    ...lfm.shapeOperators,
    ...lfm.indexOperators,
    ...lfm.reductionOperators,
    ...lfm.matrixOperators,
    ...lfm.pictureOperators,
  };

  /** The attributes of a node, with tensors in place of references. */
  function attributesOf(node, arrays) {
    const entries = Object.entries(node.attributes || {});
    return Object.fromEntries(entries.map(([name, value]) =>
      [name, value && value.type && value.shape ? arrays.tensor(value) : value]));
  }

  /**
   * A graph that runs.
   *
   * @param document the graph as JSON has it.
   * @param arrays an lfm.arrays of the block that holds its tensors.
   * @returns {inputs, outputs, run}: run({name: tensor}) gives {name: tensor}.
   */
  function graph(document, arrays) {
    const constants = Object.entries(document.tensors).map(([name, reference]) => [name, arrays.tensor(reference)]);
    const steps = document.nodes.map((node) => {
      if (!operators[node.op]) throw new Error(`the page has no operator ${node.op}`);
      return { ...node, compute: operators[node.op], attributes: attributesOf(node, arrays) };
    });

    function run(feeds) {
      const values = new Map(constants);
      for (const { name } of document.inputs) values.set(name, feeds[name]);
      for (const { op, inputs, outputs, attributes, compute } of steps) {
        const results = compute(inputs.map((name) => values.get(name)), attributes, outputs.length);
        if (!Array.isArray(results)) values.set(outputs[0], results);
        else outputs.forEach((name, k) => values.set(name, results[k]));
      }
      return Object.fromEntries(document.outputs.map((name) => [name, values.get(name)]));
    }
    return { inputs: document.inputs, outputs: document.outputs, run };
  }

  lfm.graph = graph;
  lfm.operators = operators;
})((globalThis.lfm = globalThis.lfm || {}));
