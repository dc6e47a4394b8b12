"""The run report: one self-contained HTML page and its charts as PNG files."""

from rf_training.report.collect import RunReport, collect
from rf_training.report.page import write_page

__all__ = ["RunReport", "collect", "write_page"]
