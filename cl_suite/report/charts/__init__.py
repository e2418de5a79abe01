"""Charts of tables, comparisons and runs: plain data in, a figure out. Matplotlib is imported when one is drawn."""
