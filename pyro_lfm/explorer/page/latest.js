// Requests that overtake each other: at most one is in flight, and only the newest of those that wait is sent.
(function (lfm) {
  "use strict";

  // latest(ask, show, fail): a function that asks; `show` gets answer and question, `fail` an error.
  lfm.latest = function (ask, show, fail) {
    let waiting = null;
    let running = null;

    async function run() {
      while (waiting) {
        const question = waiting.question;
        waiting = null;
        try {
          const answer = await ask(question);
          show(answer, question);
        } catch (error) {
          fail(error, question);
        }
      }
      running = null;
    }

    function request(question) {
      waiting = { question };
      running = running || run();
      return running;
    }
    // What waits is forgotten; an answer under way still comes.
    request.forget = () => (waiting = null);
    request.settled = () => running || Promise.resolve();
    return request;
  };
})((window.lfm = window.lfm || {}));
