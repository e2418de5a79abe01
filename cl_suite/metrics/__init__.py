"""Numbers of R, the matrix of scores: pure functions. Never imports torch."""
