"""Columns of a card's tables, and a stream small enough for it."""

SMALL = "stream.n_train=40"  # of toy_gaussians


def column(rows, name):
    return [row[name] for row in rows]
