"""`cl-bench completion`: what a shell reads to complete commands, flags, names and options."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "shell", choices=SHELLS, help="e.g. in ~/.bashrc: source <(cl-bench completion bash); fish: ... | source"
    )


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    import argcomplete

    print(argcomplete.shellcode(["cl-bench"], shell=options.shell))
    return 0
