"""Image streams."""
