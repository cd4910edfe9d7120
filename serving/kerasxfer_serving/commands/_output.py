from kerasxfer_serving.commands.choices import ResultFormat as Format
from kerasxfer_serving.commands.output import console, note, print_json, print_table, run

__all__ = ["Format", "console", "note", "print_json", "print_table", "run"]
