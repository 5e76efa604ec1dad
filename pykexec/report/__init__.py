"""Show a plan: as text, as JSON, and as a picture, in a terminal (`map`) or as SVG (`svg`)."""

from pykexec.report.asjson import SCHEMA, as_json
from pykexec.report.text import as_text

__all__ = ["SCHEMA", "as_json", "as_text"]
