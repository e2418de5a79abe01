"""Text streams, and the readers of their files."""
