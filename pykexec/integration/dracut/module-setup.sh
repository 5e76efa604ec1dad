#!/bin/bash
# dracut module: @CONTENT@ in the initramfs, as the command kexec.
# @ORIGIN@
# Its number is below those of the modules that copy /usr/sbin/kexec (shutdown, earlykdump): what is there already,
# dracut does not copy again.

# called by dracut
check() {
    # It may be uninstalled by now.
    @PYKEXEC@ --help > /dev/null 2>&1 || return 1
    # Only where it is asked for, as in /etc/dracut.conf.d/90-pykexec.conf.
    return 255
}

# called by dracut
depends() {
    return 0
}

# called by dracut
install() {
    # A crash kernel's system loads no other one, and has little memory. It has these modules: Fedora's, openSUSE's.
    if dracut_module_included kdumpbase || dracut_module_included kdump; then
        return 0
    fi
    # shellcheck disable=SC2154 # dracut's
    @PYKEXEC@ copy@OPTIONS@ "$initdir"
}
