"""TAME: experts found by jumps of the loss."""
