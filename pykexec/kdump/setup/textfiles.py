"""Boot loaders that read one text file: extlinux (U-Boot, syslinux), zipl, the Raspberry Pi's firmware."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pykexec.kdump.setup import defaults, entries
from pykexec.kdump.setup.change import (
    LINE,
    Change,
    Command,
    Edit,
    SetupError,
    changed,
    is_file,
    placed,
    program,
    read,
    required,
    with_lines,
)
from pykexec.kdump.setup.need import Need
from pykexec.machine.root import Root

_EXTLINUX = ("/boot/extlinux/extlinux.conf", "/extlinux/extlinux.conf", "/boot/extlinux.conf")
_ZIPL = "/etc/zipl.conf"
_RASPBERRY = ("/boot/firmware", "/boot")
_RASPBERRY_HOOK = "/etc/kernel/postinst.d/z50-raspi-firmware"
_RASPBERRY_EXTRA = "/etc/default/raspi-extra-cmdline"


def of_extlinux(root: Root, need: Need) -> Change | None:
    """Return the change of extlinux.conf; None where there is none with a kernel. Raises SetupError.

    U-Boot takes ``append`` from a label, syslinux also one before all labels
    (doc/README.pxe of U-Boot, https://wiki.syslinux.org/wiki/index.php?title=Config).
    """
    script = program(root, "u-boot-update")
    if script is not None:
        return _of_u_boot_menu(root, need, script)
    path = next((each for each in _EXTLINUX if is_file(root, each)), None)
    if path is None:
        return None
    text = required(root, path)
    _check_labels(path, text)
    if not any(keyword == "append" for _, keyword, _ in _keywords(text)):
        return None  # it starts no kernel
    pattern = re.compile(rf"[ \t]*append[ \t]+{LINE}", re.IGNORECASE)
    edit = with_lines(path, text, pattern, lambda line: _unless_met(line, need))
    return Change("extlinux", changed([edit]))


def _of_u_boot_menu(root: Root, need: Need, script: str) -> Change:
    """Return the change of what Debian's u-boot-menu makes extlinux.conf of."""
    files = defaults.u_boot_menu(root, script)
    if not defaults.line_of(root, files) and is_file(root, entries.CMDLINE):
        edits = changed(entries.kernel_install(root, need))
    else:
        edits = defaults.edits_of(root, files, need)
    words = ("u-boot-update",)
    return Change(files.loader, edits, (Command(words, (words,), refreshes=True),) if edits else ())


def _check_labels(path: str, text: str) -> None:
    """Raise SetupError where a label with a kernel has no ``append``, or another file may have some."""
    label, kernel, has_append = 0, False, True
    for number, keyword, value in [*_keywords(text), (0, "label", "")]:
        if keyword == "label":
            if kernel and not has_append:
                raise SetupError(f"{path}:{label}: a label with a kernel and without append")
            label, kernel, has_append = number, False, False
        elif keyword in ("linux", "kernel", "fit"):
            kernel = True
        elif keyword == "append":
            if value in ("", "-"):
                raise SetupError(f"{path}:{number}: an append without parameters")
            has_append = True
        elif keyword == "include" or (keyword == "menu" and value.lower().startswith("include")):
            raise SetupError(f"{path}:{number}: another file may have the command line")


def _keywords(text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split(maxsplit=1)
        if words and not words[0].startswith("#"):
            yield number, words[0].lower(), words[1].strip() if words[1:] else ""


def of_zipl(root: Root, need: Need) -> Change | None:
    """Return the change of zipl.conf's own sections; None where there is none. Raises SetupError.

    Sections of KEYWORD=VALUE: https://www.ibm.com/docs/en/linuxonibm/lddd/lddd_r_zipl_conf_struct.html
    """
    text = read(root, _ZIPL)
    if text is None or not re.search(r"(?m)^[ \t]*image[ \t]*=", text):
        return None
    _check_sections(text)
    pattern = re.compile(
        r"[ \t]*parameters[ \t]*=[ \t]*(?P<quote>[\"']?)(?P<line>[^\"'\s](?:[^\"']*[^\"'\s])?)(?P=quote)\s*"
    )
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"[ \t]*parameters[ \t]*=", line) and not pattern.fullmatch(line):
            raise SetupError(f"{_ZIPL}:{number}: parameters with quotes inside, or with none")
    edits = changed([with_lines(_ZIPL, text, pattern, lambda line: _unless_met(line, need))])
    return Change("zipl", edits, entries.zipl(root) if edits else ())


def _check_sections(text: str) -> None:
    """Raise SetupError where a section with a kernel has no parameters, or has them in a file."""
    at, keys = 0, set[str]()
    for number, line in enumerate([*text.split("\n"), "["], 1):
        content = line.strip()
        if content.startswith(("[", ":")):
            if "image" in keys and ("parameters" not in keys or "parmfile" in keys):
                raise SetupError(f"{_ZIPL}:{at}: a section whose kernel has no parameters= there")
            at, keys = number, set()
        elif "=" in content and not content.startswith("#"):
            keys.add(content.partition("=")[0].strip())


def of_raspberry(root: Root, need: Need) -> Change | None:
    """Return the change of the firmware's cmdline.txt; None where there is none. Raises SetupError.

    https://www.raspberrypi.com/documentation/computers/configuration.html: all parameters are on one line.
    """
    folder = next((each for each in _RASPBERRY if is_file(root, f"{each}/config.txt")), None)
    if folder is None or not is_file(root, f"{folder}/cmdline.txt"):
        return None
    for number, line in enumerate(required(root, f"{folder}/config.txt").split("\n"), 1):
        if re.match(r"\s*(?:cmdline|os_prefix)\s*=", line):
            raise SetupError(f"{folder}/config.txt:{number}: another file may have the command line")
    path = f"{folder}/cmdline.txt"
    text = required(root, path)
    if not text.strip() or text.strip().count("\n"):
        raise SetupError(f"{path}: it is not one line")
    edits = [with_lines(path, text, re.compile(rf"\s*{LINE}"), lambda line: _unless_met(line, need))]
    return Change("the Raspberry Pi's firmware", changed([*edits, *_for_the_hook(root, need)]))


def _for_the_hook(root: Root, need: Need) -> list[Edit]:
    """Return the edit of what Debian's raspi-firmware appends when it writes cmdline.txt anew."""
    if _RASPBERRY_EXTRA.rpartition("/")[2] not in (read(root, _RASPBERRY_HOOK) or ""):
        return []
    text = read(root, _RASPBERRY_EXTRA)
    line = (text or "").strip()
    if "\n" in line:
        raise SetupError(f"{_RASPBERRY_EXTRA}: it is not one line")
    if text is not None and need.is_met_by(line):
        return []
    with placed(_RASPBERRY_EXTRA):
        return [Edit(_RASPBERRY_EXTRA, text, f"{need.put_into(line)}\n")]


def _unless_met(line: str, need: Need) -> str:
    return line if need.is_met_by(line) else need.put_into(line)
