"""`cl-bench speed`: what the harness and the strategies cost, side by side."""
