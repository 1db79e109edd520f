"""Files on disk: read by position, written whole or not at all."""

STDIN = STDOUT = "-"  # in the place of a path
