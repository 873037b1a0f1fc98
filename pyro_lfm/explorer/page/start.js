// Starts the page that a server sent.
lfm.start(lfm.serverSource());
