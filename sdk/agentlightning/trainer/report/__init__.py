"""What a person reads of a run: in the terminal before and after it, as Markdown, and as a page with plots.

`reading` turns the run's record into types, and each form is written from those alone. Nothing here knows the store,
and nothing decides.
"""

from agentlightning.trainer.report.beforehand import cost_lines, trace_lines
from agentlightning.trainer.report.html import html_page
from agentlightning.trainer.report.markdown import markdown_page
from agentlightning.trainer.report.saving import report_paths, save_reports
from agentlightning.trainer.report.text import result_lines
from agentlightning.trainer.report.words import money

__all__ = [
    "cost_lines",
    "html_page",
    "markdown_page",
    "money",
    "report_paths",
    "result_lines",
    "save_reports",
    "trace_lines",
]
