"""pykexec: load a second Linux kernel into a running one, and boot it or keep it ready for a crash.

As a library::

    from pykexec.loader import plan_load, load
    from pykexec.machine import Machine
    from pykexec.plan import Purpose, Request

    machine = Machine.live()
    plan = plan_load(machine, Request.from_paths("/boot/vmlinuz", purpose=Purpose.CRASH, append="..."))
    load(plan, machine)
"""

__version__ = "0.1.0"

KEXEC_TOOLS = "2.0.32"
"""The version of kexec-tools whose command line this one follows; scripts ask for it."""
