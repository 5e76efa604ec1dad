"""How i386 machines' kdump is judged."""

from pykexec.arch.x86.doctor import CHECKS, CONSOLE
from pykexec.kdump.doctor.part import DoctorPart

PART = DoctorPart(checks=CHECKS, console=CONSOLE)
