"""What Sphinx's configuration needs beyond Sphinx: pages as notebooks, members of classes, local mathematics."""
