"""The commands of `cl-bench`, one module each: its flags (`add_arguments`) and what it does (`execute`).

Nothing heavy is imported before it is needed, so that `--help` and a wrong request are answered at once.
"""

# Name -> (module of this package, what it does)
COMMANDS = {
    "run": ("run", "train a strategy on a stream (also without the word: cl-bench --strategy ...)"),
    "predict": ("predict", "answer for images, texts or tables with a saved model"),
    "export": ("export", "write a saved model as one program: torch.export or ONNX"),
    "list": ("list_plugins", "name the installed strategies and streams"),
    "submit": ("submit", "bundle records into one archive that can be verified"),
    "import": ("import_records", "verify an archive and take its records in"),
    "report": ("report", "turn saved records into a leaderboard"),
    "compare": ("compare", "set two strategies, or ours and published figures, beside each other"),
    "metrics": ("metrics", "show one run under every definition of its metrics"),
    "check": ("check", "run the conformance suite on a strategy"),
    "new": ("new", "write a working single-file plugin and its test"),
    "data": ("data", "fetch or verify the files of streams"),
    "card": ("card", "show what the tasks of a stream are, with chance level, ceiling and a picture"),
    "speed": ("speed", "measure what the harness costs beside a bare loop, or a strategy beside finetune"),
}
