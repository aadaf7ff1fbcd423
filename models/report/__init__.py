"""The report that a clinical reviewer opens: one self-contained HTML file."""

from models.report.page import write_report

__all__ = ["write_report"]
