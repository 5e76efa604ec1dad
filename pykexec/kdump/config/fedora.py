"""Read /etc/kdump.conf and /etc/sysconfig/kdump: Fedora, RHEL and its rebuilds, openEuler."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pykexec.kdump.config import dracut, fencing, targets, values
from pykexec.kdump.config.errors import ConfigError, Where, nearest, shown
from pykexec.kdump.config.names import (
    FEDORA_SYSCONFIG,
    KDUMP_CONF,
    TARGETS,
    UNREAD,
    assigned,
    whose,
)
from pykexec.kdump.config.settings import (
    DEFAULT_PATH,
    DEFAULT_SSH_KEY,
    Action,
    Collector,
    CommandLinePolicy,
    Dialect,
    DracutArguments,
    Fencing,
    Hooks,
    KernelChoice,
    LogLevels,
    Rebuild,
    Settings,
    Target,
    TargetKind,
)
from pykexec.kdump.config.shell import TEXT_MAX
from pykexec.kdump.config.variables import Variables

CONF = KDUMP_CONF.file
SYSCONFIG = FEDORA_SYSCONFIG.file

GONE: Mapping[str, str] = {
    "net": "write nfs HOST:/FOLDER or ssh USER@HOST",
    "options": "put options into /etc/modprobe.d, which every capture image goes by",
    "link_delay": "the capture system waits for the network by itself",
    "disk_timeout": "the capture system waits for the disk by itself",
    "debug_mem_level": "put rd.memdebug=N into KDUMP_COMMANDLINE_APPEND",
    "blacklist": 'write dracut_args --omit-drivers "NAME NAME", or put rd.driver.blacklist=NAME into'
    " KDUMP_COMMANDLINE_APPEND",
}
"""Keys that only older versions had, and what replaces them."""

_FAILURE_ACTIONS: Mapping[str, Action] = {action.value: action for action in Action}
_FINAL_ACTIONS: Mapping[str, Action] = {
    action.value: action for action in (Action.REBOOT, Action.HALT, Action.POWEROFF)
}
_YES_NO: Mapping[str, bool] = {"yes": True, "no": False}
_ZERO_ONE: Mapping[str, bool] = {"0": False, "1": True}

_DEFAULT_COLLECTOR = ("makedumpfile", "-l", "--message-level", "7", "-d", "31")
# kdump-utils, kdumpctl: the parameters that are removed where /etc/sysconfig/kdump does not say
_DEFAULT_REMOVE = ("hugepages", "hugepagesz", "slub_debug")
_MOUNT = re.compile(r"(?:^|\s)--mount(?:=|\s|$)")


@dataclass(frozen=True, slots=True)
class _Option:
    key: str
    value: str
    where: Where


def read(conf: str | None, sysconfig: str | None) -> Settings:
    """Return the settings that the two files' texts make; None is for a missing file. Raises ConfigError."""
    options = _conf_options(conf or "", f"/{CONF}")
    variables = Variables(sysconfig or "", FEDORA_SYSCONFIG)
    target, target_where = _target(options)
    warnings: list[str] = []
    texts = {each.key: each.value for each in options.values()}
    failure, final = _actions(options)
    _check_what_is_for_others(variables)
    return Settings(
        dialect=Dialect.FEDORA,
        files=tuple(f"/{name}" for name, text in ((CONF, conf), (SYSCONFIG, sysconfig)) if text is not None),
        target=target,
        path=_path(options, target),
        collector=_collector(options, target, target_where, warnings),
        # openEuler ships -1, which removes none of the old dumps.
        keep_old_dumps=max(_number(options, "keep_old_dumps", least=-1), 0),
        failure_action=failure,
        final_action=final,
        kernel=_kernel(variables),
        command_line=_command_line(variables) if sysconfig is not None else CommandLinePolicy(append=None),
        kexec_arguments=tuple(variables.text("KEXEC_ARGS").split()),
        hooks=Hooks(
            _program(options, "kdump_pre"),
            _program(options, "kdump_post"),
            _program(options, "kdump_emergency"),
        ),
        extra_programs=_extra_programs(options),
        extra_modules=tuple(texts.get("extra_modules", "").split()),
        dracut_arguments=_words(options, "dracut_args"),
        dracut=_dracut(options),
        rebuild=_rebuild(options),
        auto_reset_crashkernel=_word(options, "auto_reset_crashkernel", _YES_NO, default=False),
        fencing=_fencing(options),
        hand_over_keys=variables.hands_over_keys,
        log_levels=_log_levels(variables),
        warnings=(*warnings, *variables.unknown, *_warnings(options, variables)),
    )


def _check_what_is_for_others(variables: Variables) -> None:
    """Raise ConfigError for bad values of settings for other programs, which pykdump does not use."""
    variables.choice("VMCORE_CREATION_NOTIFICATION", _YES_NO, default=True)


# /etc/kdump.conf: KEY REST-OF-LINE; # starts a comment


def _conf_options(text: str, file: str) -> dict[str, _Option]:
    if len(text) > TEXT_MAX:
        raise ConfigError(f"{file}: more than {TEXT_MAX} characters: no configuration")
    options: dict[str, _Option] = {}
    for option in _lines(text, file):
        _require_known(option, text)
        before = options.get(option.key)
        if before is not None:
            raise option.where.error(
                f"{option.key} stands also in line {before.where.line}",
                "only one of them can hold; remove one",
            )
        options[option.key] = option
    return options


def _lines(text: str, file: str) -> Iterator[_Option]:
    for number, line in enumerate(text.split("\n"), 1):
        # kdumpctl cuts at every '#', even in quotes.
        content = line.partition("#")[0].strip()
        if not content:
            continue
        where = Where(file, number)
        values.plain(content, "this line", where)
        key = content.split(maxsplit=1)[0]
        yield _Option(key, _without_quotes(content[len(key) :].strip()), where)


def _without_quotes(value: str) -> str:
    """Return the value without one pair of quotes that encloses all of it."""
    if len(value) >= 2 and value[0] == value[-1] == '"' and '"' not in value[1:-1]:
        return value[1:-1].strip()
    return value


def _require_known(option: _Option, text: str) -> None:
    """Raise ConfigError for a key of `text` that kdumpctl does not know, or that has no value."""
    if option.key in GONE:
        raise option.where.error(f"{option.key} is no longer understood", GONE[option.key])
    if option.key not in KDUMP_CONF.names:
        if assigned(f"{option.key} {option.value}"):
            raise _assignment(option, text)
        raise option.where.error(f"unknown key {shown(option.key)}", nearest(option.key, KDUMP_CONF.names))
    if not option.value:
        raise option.where.error(f"{option.key} has no value")


def _assignment(option: _Option, text: str) -> ConfigError:
    """Return the error for NAME=VALUE. It names the tool that reads such a file."""
    form = whose(assigned(text))
    if form is None:
        hint = "write KEY VALUE, without '='; NAME=VALUE belongs into /etc/sysconfig/kdump"
        return option.where.error(f"unknown key {shown(option.key)}", hint)
    name = assigned(f"{option.key} {option.value}")[0]
    what = f"{shown(f'{name}=')}: this is the format of {form.tool} (/{form.file}), not kdump.conf(5)'s"
    if form in UNREAD:
        hint = (
            "pykdump does not read that: write KEY VALUE lines, as path /var/crash, and nothing else here;"
            " that tool has to have another file, or to go"
        )
    else:
        hint = f"move NAME=VALUE lines to /{form.file}, and write KEY VALUE lines here, or remove this file"
    return option.where.error(what, hint)


def _target(options: Mapping[str, _Option]) -> tuple[Target, Where | None]:
    given = [options[key] for key in TARGETS if key in options]
    mount = options.get("dracut_args")
    if mount is not None and _MOUNT.search(mount.value):
        given.append(mount)
    given.sort(key=lambda option: option.where.line)
    if len(given) > 1:
        first, second = given[:2]
        raise second.where.error(
            f"a second dump target, {second.key}; line {first.where.line} has {first.key}",
            "a dump goes to one target; remove the other",
        )
    if not given:
        _checked(options, "sshkey", targets.AbsolutePath)
        return Target(), None
    return _make_target(given[0], options), given[0].where


def _make_target(option: _Option, options: Mapping[str, _Option]) -> Target:
    key, value, where = option.key, option.value, option.where
    if key == "raw":
        return Target(TargetKind.RAW, values.device(value, key, where))
    if key == "nfs":
        return Target(TargetKind.NFS, values.checked(targets.NfsExport, value, key, where))
    if key == "ssh":
        ssh_key = _checked(options, "sshkey", targets.AbsolutePath) or DEFAULT_SSH_KEY
        return Target(TargetKind.SSH, values.checked(targets.Login, value, key, where), ssh_key=ssh_key)
    if key == "dracut_args":
        return _dracut_mount(option)
    if key == "virtiofs":
        tag = values.checked(targets.ShareTag, value, key, where)
        return Target(TargetKind.FILESYSTEM, tag, filesystem=key)
    return Target(TargetKind.FILESYSTEM, values.device(value, key, where), filesystem=key)


def _dracut_mount(option: _Option) -> Target:
    """Return the target of --mount "DEVICE MOUNTPOINT TYPE [OPTIONS ...]", see dracut(8)."""
    if len(_MOUNT.findall(option.value)) > 1:
        raise option.where.error("several --mount in dracut_args", "a dump goes to one target")
    words = values.words(option.value, "dracut_args", option.where)
    mounts = [words[i + 1 : i + 2] for i, word in enumerate(words) if word == "--mount"]
    mounts += [(word.removeprefix("--mount="),) for word in words if word.startswith("--mount=")]
    parts = mounts[0][0].split() if mounts and mounts[0] else []
    if len(parts) < 2:
        raise option.where.error('--mount in dracut_args has to be followed by "DEVICE MOUNTPOINT TYPE"')
    filesystem = values.checked(targets.FileName, parts[2], "dracut_args", option.where) if parts[2:] else ""
    source = values.checked(targets.MountSource, parts[0], "dracut_args", option.where)
    given = tuple(("mount", each) for each in parts[3:4])
    return Target(TargetKind.DRACUT, source, filesystem=filesystem, options=given)


def _path(options: Mapping[str, _Option], target: Target) -> str:
    option = options.get("path")
    if option is None:
        return DEFAULT_PATH
    # In a target's own file system a path counts from its root, with or without a slash.
    path = option.value if target.kind is TargetKind.LOCAL else f"/{option.value.strip('/')}"
    return values.checked(targets.AbsolutePath, path, "path", option.where)


def _collector(
    options: Mapping[str, _Option], target: Target, target_where: Where | None, warnings: list[str]
) -> Collector:
    streams = target.kind in (TargetKind.RAW, TargetKind.SSH)
    option = options.get("core_collector")
    if option is None:
        return Collector((*_DEFAULT_COLLECTOR, "-F") if streams else _DEFAULT_COLLECTOR)
    collector = values.collector(option.value, option.key, option.where)
    program = collector.program.rpartition("/")[2]
    if program == "makedumpfile":
        if streams and "-F" not in collector.words:
            at = f" (line {target_where.line})" if target_where else ""
            raise option.where.error(
                f"makedumpfile needs -F for the target {target.kind.value}{at}, a stream",
                "add -F; makedumpfile -R puts the dump in order afterwards",
            )
    elif target.kind is TargetKind.RAW:
        warnings.append(f"{option.where}: a raw dump written by {program} has to be recovered by hand")
    elif program == "scp" and target.kind is not TargetKind.SSH:
        raise option.where.error(
            "scp copies to an ssh target only", "use makedumpfile, or add ssh USER@HOST"
        )
    return collector


def _actions(options: Mapping[str, _Option]) -> tuple[Action, Action]:
    old, new = options.get("default"), options.get("failure_action")
    if old and new:
        raise max(old, new, key=lambda each: each.where.line).where.error(
            "both default and failure_action are there", "default is the old name; remove it"
        )
    option = new or old
    failure = (
        values.choice(_FAILURE_ACTIONS, option.value, option.key, option.where) if option else Action.REBOOT
    )
    return failure, _word(options, "final_action", _FINAL_ACTIONS, default=Action.REBOOT)


def _rebuild(options: Mapping[str, _Option]) -> Rebuild:
    always = _word(options, "force_rebuild", _ZERO_ONE, default=False)
    never = _word(options, "force_no_rebuild", _ZERO_ONE, default=False)
    if always and never:
        raise options["force_no_rebuild"].where.error(
            f"force_rebuild (line {options['force_rebuild'].where.line}) and force_no_rebuild are both 1"
        )
    return Rebuild.ALWAYS if always else Rebuild.NEVER if never else Rebuild.WHEN_NEEDED


def _fencing(options: Mapping[str, _Option]) -> Fencing:
    nodes, arguments = options.get("fence_kdump_nodes"), options.get("fence_kdump_args")
    found = Fencing()
    if arguments is not None:
        words = values.words(arguments.value, arguments.key, arguments.where)
        found = fencing.parse(words, arguments.key, arguments.where)
        if found.nodes:
            raise arguments.where.error(
                f"fence_kdump_args has a node in it: {shown(found.nodes[0])}",
                "nodes belong into fence_kdump_nodes",
            )
    if nodes is None:
        return found
    hosts = (values.checked(targets.Host, each, nodes.key, nodes.where) for each in nodes.value.split())
    return replace(found, nodes=tuple(hosts))


def _program(options: Mapping[str, _Option], key: str) -> str:
    return _checked(options, key, targets.AbsolutePath)


def _extra_programs(options: Mapping[str, _Option]) -> tuple[str, ...]:
    option = options.get("extra_bins")
    if option is None:
        return ()
    return tuple(
        values.checked(targets.Program, name, option.key, option.where) for name in option.value.split()
    )


def _dracut(options: Mapping[str, _Option]) -> DracutArguments:
    option = options.get("dracut_args")
    return DracutArguments() if option is None else dracut.parse(_words(options, option.key), option.where)


def _checked(options: Mapping[str, _Option], key: str, kind: type[str]) -> str:
    """Return the value as a type of `targets`; "" where there is none."""
    option = options.get(key)
    return "" if option is None else values.checked(kind, option.value, key, option.where)


def _words(options: Mapping[str, _Option], key: str) -> tuple[str, ...]:
    option = options.get(key)
    return () if option is None else values.words(option.value, key, option.where)


def _number(options: Mapping[str, _Option], key: str, *, least: int) -> int:
    option = options.get(key)
    return 0 if option is None else values.number(option.value, key, option.where, least=least)


def _word(
    options: Mapping[str, _Option], key: str, allowed: Mapping[str, values.T], *, default: values.T
) -> values.T:
    option = options.get(key)
    return default if option is None else values.choice(allowed, option.value, key, option.where)


# /etc/sysconfig/kdump


def _kernel(variables: Variables) -> KernelChoice:
    version = variables.assigned("KDUMP_KERNELVER")
    if version and ("/" in version.value or " " in version.value):
        raise version.where.error(
            f"KDUMP_KERNELVER is no version: {shown(version.value)}", "uname -r shows one"
        )
    return KernelChoice(
        version=variables.checked(targets.FileName, "KDUMP_KERNELVER"),
        folder=variables.path("KDUMP_BOOTDIR"),
        image=variables.checked(targets.FileName, "KDUMP_IMG") or "vmlinuz",
        extension=variables.checked(targets.Suffix, "KDUMP_IMG_EXT"),
    )


def _command_line(variables: Variables) -> CommandLinePolicy:
    removed = tuple(variables.text("KDUMP_COMMANDLINE_REMOVE").split())
    return CommandLinePolicy(
        given=variables.text("KDUMP_COMMANDLINE") or None,
        remove=removed if variables.is_set("KDUMP_COMMANDLINE_REMOVE") else _DEFAULT_REMOVE,
        append=variables.text("KDUMP_COMMANDLINE_APPEND"),
    )


def _log_levels(variables: Variables) -> LogLevels:
    standard = LogLevels()
    return LogLevels(
        variables.number("KDUMP_STDLOGLVL", standard.standard_error, most=4),
        variables.number("KDUMP_SYSLOGLVL", standard.syslog, most=4),
        variables.number("KDUMP_KMSGLOGLVL", standard.kernel, most=4),
    )


def _warnings(options: Mapping[str, _Option], variables: Variables) -> Iterator[str]:
    def at(key: str) -> Where:
        return options[key].where

    if "default" in options:
        yield f"{at('default')}: default is the old name of failure_action"
    if "override_resettable" in options:
        _word(options, "override_resettable", _ZERO_ONE, default=False)
        yield f"{at('override_resettable')}: override_resettable has no effect any more"
    if "sshkey" in options and "ssh" not in options:
        yield f"{at('sshkey')}: sshkey without an ssh target has no effect"
    if "fence_kdump_args" in options and "fence_kdump_nodes" not in options:
        yield f"{at('fence_kdump_args')}: fence_kdump_args without fence_kdump_nodes has no effect"
    arguments = variables.assigned("KEXEC_ARGS")
    if arguments and any(each in arguments.value for each in "\"'\\"):
        yield f"{arguments.where}: KEXEC_ARGS is split at blanks; quotes in it stay in the words"
    given = variables.assigned("KDUMP_COMMANDLINE")
    if given:
        yield f"{given.where}: KDUMP_COMMANDLINE replaces the running kernel's command line altogether"
    yield from variables.without_effect("VMCORE_CREATION_NOTIFICATION")
    old = variables.assigned("MKDUMPRD_ARGS")
    if old:
        yield f"{old.where}: MKDUMPRD_ARGS has no effect any more; use dracut_args"
