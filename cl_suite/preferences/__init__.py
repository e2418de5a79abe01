"""Trade-offs between tasks: who answers for a preference, which preferences are asked for, how the answers score."""
