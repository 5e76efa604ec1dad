"""All manual pages, in the order in which they are listed. Each is made from the definitions it tells of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pykexec.errors import UsageError


@dataclass(frozen=True, slots=True)
class Page:
    """A manual page."""

    name: str
    section: int
    """8: a program for administrators; 5: a file or a format."""
    text: Callable[[], str]
    """Makes the page, in roff."""

    @property
    def file(self) -> str:
        """Its path below a folder of manual pages."""
        return f"man{self.section}/{self.name}.{self.section}"


def _pykexec() -> str:
    from pykexec import manual

    return manual.page()


def _pykdump() -> str:
    from pykexec.kdump import manual
    from pykexec.kdump.cli import group

    return manual.page(group)


def _vmcore_dmesg() -> str:
    from pykexec.kdump import manual

    return manual.vmcore_dmesg_page()


def _configuration() -> str:
    from pykexec.manpages import configuration

    return configuration.page()


def _outputs() -> str:
    from pykexec.manpages import outputs

    return outputs.page()


def _plan_file() -> str:
    from pykexec.manpages import planfile

    return planfile.page()


PAGES = (
    Page("pykexec", 8, _pykexec),
    Page("pykdump", 8, _pykdump),
    Page("vmcore-dmesg", 8, _vmcore_dmesg),
    Page("pykdump.conf", 5, _configuration),
    Page("pykexec-json", 5, _outputs),
    Page("pykexec-plan", 5, _plan_file),
)


def find(name: str) -> Page:
    """Return the page of that name. Raises UsageError, which names all pages."""
    for page in PAGES:
        if page.name == name:
            return page
    raise UsageError(f"no manual page {name}", hint=f"there are: {', '.join(page.name for page in PAGES)}")
