"""What is known of a strategy, a stream, a network or a run before anything is run. Never imports torch at once."""
