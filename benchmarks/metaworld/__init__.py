"""Meta-World: streams and their simulator."""
