"""`cl-bench check`: what every strategy promises, and the stream it is tried on."""
