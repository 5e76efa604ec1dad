"""Install pykexec where Python is not: in an initramfs, and under the name ``kexec``.

``python -m pykexec.integration`` lists or copies the parts of Python, its library and this package that a
load needs. It installs the hooks for dracut and initramfs-tools, and the links of update-alternatives.
"""
