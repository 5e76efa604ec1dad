"""Show a plan, as text and as JSON."""

from pykexec.report.asjson import SCHEMA, as_json
from pykexec.report.text import as_text

__all__ = ["SCHEMA", "as_json", "as_text"]
