"""`python -m cl_suite` is `cl-bench`."""

from cl_suite.cli.main import main

main()
