"""The page that works from disk: its data, its graphs, and the one HTML file."""
