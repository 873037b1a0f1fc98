"""Parts as text: expressions and tables, read and written without running code."""
