"""A plugin of pytest, which ends with a line for each reason to skip tests."""

from collections import Counter


def pytest_terminal_summary(terminalreporter):
    """Say what the tests that were skipped need, and how many they are."""
    reports = terminalreporter.stats.get("skipped", [])
    texts = [report.longrepr[2].removeprefix("Skipped: ") for report in reports]
    for text, number in Counter(texts).most_common():
        terminalreporter.write_line(f"{number} skipped: {text}")
