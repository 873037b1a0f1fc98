"""How well hidden entries are filled in."""
