"""One run, one JSON file: written, read, validated, shared. Never imports torch."""
