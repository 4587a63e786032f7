"""One flow a file, and nothing else in it."""
