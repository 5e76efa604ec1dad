"""pykexec where Python is not: in an initramfs, and under the name ``kexec``.

``python -m pykexec.integration`` lists or copies what of Python, its library and this package a load takes,
and installs the pieces for dracut, initramfs-tools and update-alternatives.
"""
