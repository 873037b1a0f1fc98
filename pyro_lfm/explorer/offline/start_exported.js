// Starts a page that works from disk.
lfm.start(lfm.exportedSource(JSON.parse(document.getElementById("payload").textContent)));
