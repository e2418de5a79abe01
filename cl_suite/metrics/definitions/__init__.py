"""Every definition of the metrics in use, under versioned names. Never imports torch."""
