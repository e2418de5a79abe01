"""In Python what `cl-bench` does on the command line: run, read results, compare, make the leaderboard."""
