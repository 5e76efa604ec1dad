"""pykexec: load a second Linux kernel into a running one, and boot it or keep it ready for a crash.

As a library::

    from pykexec.loader import plan_load, load
    from pykexec.machine import Machine
    from pykexec.plan import Purpose, Request

    machine = Machine.live()
    plan = plan_load(machine, Request.from_paths("/boot/vmlinuz", purpose=Purpose.CRASH, cmdline="..."))
    load(plan)
"""

__version__ = "0.1.0"
