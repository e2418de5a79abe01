"""The leaderboard as Markdown, CSV, JSON, LaTeX and HTML."""
