"""The doctor's checks that depend on the architecture, for i386."""

from pykexec.arch.x86.doctor import CHECKS, CONSOLE
from pykexec.kdump.doctor.part import DoctorPart

PART = DoctorPart(checks=CHECKS, console=CONSOLE)
