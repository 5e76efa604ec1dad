"""pykexec: load a second Linux kernel into a running one, and boot it or keep it ready for a crash.

A program may rely on the names below: they keep their meaning in versions to come, which may add some. All
else that is in the package may change in any version.

Machine       facts about a machine: the running one (live), or that of a snapshot (from_snapshot)
Request       a kernel to load, and how; from_paths opens its files
Purpose       what it is loaded for: BOOT or CRASH
Console       of a request: where purgatory's messages go
Module        of a request: a file for a Multiboot kernel
Addition      of a request: a file to put into the initramfs
FileData      a file of a request: mapped (open), or made of bytes (from_bytes)
Range         addresses from a start up to, but not including, an end
plan_load     decide what goes where in memory: Machine, Request -> LoadPlan
load_request  plan and load in one go, with kexec_file_load(2) or kexec_load(2)
load          load what was planned
unload        forget what is loaded
status        tell whether something is loaded
LoadPlan      a plan for kexec_load(2)
FileLoadPlan  a plan for kexec_file_load(2)
Segment       of a plan: a piece of memory, what it holds, and why it is there
PykexecError  the base of all errors: what was wrong, and a hint; the others are in errors
errors        a module: all errors
execute       a module: start what is loaded (execute), or let init do so (shut_down)
planfile      a module: plans as files (write, build, parse)
report        a module: a plan as text and as JSON (as_text, as_json)
KEXEC_TOOLS   the version of kexec-tools whose command line pykexec has

Examples are in pykexec.examples, and this is one::

    from pykexec import Machine, Purpose, Request, load, plan_load

    machine = Machine.live()
    plan = plan_load(machine, Request.from_paths("/boot/vmlinuz", purpose=Purpose.CRASH, append="..."))
    load(plan, machine)
"""

__version__ = "0.1.0"

KEXEC_TOOLS = "2.0.32"
"""The version of kexec-tools whose command line this one follows; scripts ask for it."""

__all__ = [
    "KEXEC_TOOLS",
    "Addition",
    "Console",
    "FileData",
    "FileLoadPlan",
    "LoadPlan",
    "Machine",
    "Module",
    "Purpose",
    "PykexecError",
    "Range",
    "Request",
    "Segment",
    "errors",
    "execute",
    "load",
    "load_request",
    "plan_load",
    "planfile",
    "report",
    "status",
    "unload",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec import errors, execute, planfile, report
    from pykexec.errors import PykexecError
    from pykexec.files import FileData
    from pykexec.initramfs import Addition
    from pykexec.loader import load, load_request, plan_load, status, unload
    from pykexec.machine import Machine
    from pykexec.memory import Range
    from pykexec.plan import Console, FileLoadPlan, LoadPlan, Module, Request, Segment
    from pykexec.purpose import Purpose
else:
    # Where each name comes from. Most ways through the programs need few of them, so none is imported here.
    _ORIGINS = {
        **dict.fromkeys(("errors", "execute", "planfile", "report")),  # modules
        "PykexecError": "errors",
        "FileData": "files",
        "Addition": "initramfs",
        **dict.fromkeys(("load", "load_request", "plan_load", "status", "unload"), "loader"),
        "Machine": "machine",
        "Range": "memory",
        **dict.fromkeys(("Console", "FileLoadPlan", "LoadPlan", "Module", "Request", "Segment"), "plan"),
        "Purpose": "purpose",
    }

    def __getattr__(name: str) -> object:
        if name not in _ORIGINS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        origin = _ORIGINS[name]
        # As importlib does, which would have to be imported first.
        module = __import__(f"{__name__}.{origin or name}", fromlist=["__name__"])
        return getattr(module, name) if origin else module

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
