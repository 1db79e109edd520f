"""Files on disk: read by position, written whole or not at all."""
