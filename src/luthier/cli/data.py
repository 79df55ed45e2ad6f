"""``luthier data``: the commands about training files: local ones, for which no server is needed, and stored ones.

What it does: names the commands; each is loaded when it is asked for. What it does not: any work.
"""

import click

from luthier.cli.lazy_group import LazyGroup

COMMANDS = {
    "check": ("luthier.cli.data_check", "check", "Check a training file for everything a job would fail over."),
    "doctor": ("luthier.cli.data_doctor", "doctor", "Examine what a training file would teach: copies, conflicts, overlap, leaks."),
    "import": ("luthier.cli.data_import", "import_", "Make a training file of tables, JSON, Parquet, folders or hub data sets."),
    "export": ("luthier.cli.data_export", "export", "Write a training file as CSV, Alpaca or ShareGPT."),
    "fix": ("luthier.cli.data_fix", "fix", "Write a repaired copy of a training file, and show what was changed."),
    "show": ("luthier.cli.data_show", "show", "Show rows as the tokens that a model reads and learns."),
    "losses": ("luthier.cli.data_losses", "losses", "Show the rows that a model predicts worst and best."),
    "redact": ("luthier.cli.data_redact", "redact", "Write a copy without secrets and personal data."),
    "split": ("luthier.cli.data_split", "split", "Split a file into training and validation rows."),
    "tasks": ("luthier.cli.data_tasks", "tasks", "List what the server does with stored files; show or cancel one task."),
}


@click.group(cls=LazyGroup, table=COMMANDS, epilog="Example: luthier data import reviews.csv -o reviews.jsonl")
def data() -> None:
    """Check, import, repair, redact and split training files before any job reads them."""
