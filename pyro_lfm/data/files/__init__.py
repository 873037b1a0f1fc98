"""Files and folders as people have them, opened as what ``lfm.fit`` takes."""
