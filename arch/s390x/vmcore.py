"""What dumps of s390x are like."""

from pykexec.vmcore.part import VmcorePart

PART = VmcorePart(char_is_signed=False, marks_incomplete=True)
