"""Reports of either kind, a model's or a server's, read and compared by what the files say they are."""

import json
from pathlib import Path

from kerasxfer_serving.benchmarking.compare import Comparison, compare
from kerasxfer_serving.benchmarking.report import Report, ReportError
from kerasxfer_serving.benchmarking.server_report import FORMAT, FORMAT_VERSION, ServerReport, compare_servers


def read_report(path: Path) -> Report | ServerReport:
    """Read what `benchmark` wrote.

    Raises:
        ReportError: The file is no report, or one of a later version.
    """
    try:
        data = json.loads(path.read_bytes())
        if data["format"] != FORMAT:
            return Report.read(path)
        if data["format_version"] != FORMAT_VERSION:
            raise ReportError(f"`{path}` is a report of another version. Received: {data['format_version']}")
        return ServerReport.from_dict(data)
    except (OSError, ValueError, KeyError, TypeError):
        return Report.read(path)  # which says what is wrong


def compare_files(before: Path, after: Path) -> Comparison:
    """Compare two reports of one kind.

    Raises:
        ReportError: A file is no report, or they are of two kinds.
    """
    match read_report(before), read_report(after):
        case Report() as first, Report() as second:
            return compare(first, second)
        case ServerReport() as first, ServerReport() as second:
            return compare_servers(first, second)
    raise ReportError("One report is of a model and the other of a server: they cannot be compared.")
