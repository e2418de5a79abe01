"""Two strategies beside each other, and ours beside published figures."""
