"""GRUB's configuration as Debian's installer leaves it, in a machine that starts without GRUB."""

MASKED = "kdump-tools.service"
"""A unit that a machine's first boot may have masked, and that the menu's have not."""

# lab= tells the boots of the menu from the first one.
INSTALLED = f"""
line="$(sed 's/systemd.mask={MASKED}//; s/root=[^ ]* rw//' /proc/cmdline)"
cat > /etc/default/grub << END
GRUB_DEFAULT=0
GRUB_DISTRIBUTOR=\\`lsb_release -i -s 2> /dev/null || echo Debian\\`
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="$line lab=after"
END
mkdir -p /boot/grub
update-grub
"""
"""Writes it, and the menu."""

# As GRUB would do: the kernel, the initrd and the command line of the entry that it starts.
LOADED = "pykexec -l --entry-id=default"
START = "systemctl kexec"
"""What ends a boot so that what was `LOADED` is the next one."""
