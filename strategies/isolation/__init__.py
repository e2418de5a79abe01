"""Parameter isolation: each task has its own masks or weights."""
