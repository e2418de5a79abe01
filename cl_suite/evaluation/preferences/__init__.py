"""Trade-offs between tasks: `--evaluate preferences`."""
