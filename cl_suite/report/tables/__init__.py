"""What stands in a leaderboard: rows, measures, statistics."""
