"""Records to tables. Never imports torch."""
