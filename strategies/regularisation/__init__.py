"""Regularisation: a penalty keeps the weights, or the answers, near the old ones."""
