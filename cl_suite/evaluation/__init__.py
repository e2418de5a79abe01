"""`--evaluate` and `--diagnostics`: what else is asked of a strategy, one file a question."""
