"""The parser, held against the C library's getopt_long, which the C tool uses."""

import ctypes
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.arch import Arch, all_architectures
from pykexec.errors import UsageError
from pykexec.memory import Range
from pykexec.optionparser import parse
from pykexec.options import OPTIONS, Option, Options, number, spelling
from pykexec.plan import SPECIAL, Console, Request

THEIRS = [option for option in OPTIONS if not option.ours]
"""Those of the C tool; ours cannot be abbreviated, which getopt_long would do."""
UNDERSTOOD = [option for option in THEIRS if option.field not in ("help", "version")]


class _LongOption(ctypes.Structure):
    """struct option of <getopt.h>."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("has_arg", ctypes.c_int),
        ("flag", ctypes.c_void_p),
        ("val", ctypes.c_int),
    )


def reference(
    argv: Sequence[str], options: Sequence[Option]
) -> tuple[list[tuple[int, str | None]], list[str]]:
    """What getopt_long finds: options by index, each with its argument, and the operands.

    Raises ValueError where it reports an error.
    """
    libc = ctypes.CDLL(None)
    ctypes.c_int.in_dll(libc, "opterr").value = 0
    optind = ctypes.c_int.in_dll(libc, "optind")
    optind.value = 0  # glibc: start anew
    optarg = ctypes.c_char_p.in_dll(libc, "optarg")
    table = [
        (name[2:].encode(), option.metavar is not None, index)
        for index, option in enumerate(options)
        for name in option.names
        if name.startswith("--")
    ]
    long_options = (_LongOption * (len(table) + 1))()
    for slot, (name, takes, index) in zip(long_options, table, strict=False):
        slot.name, slot.has_arg, slot.val = name, int(takes), 256 + index
    letters = {
        name[1]: index
        for index, option in enumerate(options)
        for name in option.names
        if not name.startswith("--")
    }
    short = "".join(letter + (":" if options[index].metavar else "") for letter, index in letters.items())
    words = (ctypes.c_char_p * (len(argv) + 2))(b"kexec", *(word.encode() for word in argv), None)
    found: list[tuple[int, str | None]] = []
    while (code := libc.getopt_long(len(argv) + 1, words, short.encode(), long_options, None)) != -1:
        if code == ord("?"):
            raise ValueError("error")
        index = code - 256 if code >= 256 else letters[chr(code)]
        argument = optarg.value if options[index].metavar else None
        found.append((index, None if argument is None else argument.decode()))
    operands = [words[place] for place in range(optind.value, len(argv) + 1)]
    return found, [word.decode() for word in operands if word is not None]


def expected(argv: Sequence[str]) -> dict[str, object]:
    found, operands = reference(argv, UNDERSTOOD)
    values: dict[str, object] = {}
    for index, argument in found:
        option = UNDERSTOOD[index]
        value: object = option.value if argument is None else argument
        if argument is not None and option.convert:
            value = option.convert(option.names[-1], argument)
        if option.repeats:
            before = values.get(option.field, ())
            assert isinstance(before, tuple)
            value = (*before, option.spelling if option.field == "meaningless" else value)
        values[option.field] = value
    if len(operands) > 1:
        raise ValueError("the C tool drops the second operand; we do not")
    return values | ({"kernel": operands[0]} if operands else {})


NAMES = [name for option in UNDERSTOOD for name in option.names]
LONG = [name for name in NAMES if name.startswith("--")]
WORDS = st.one_of(
    st.sampled_from(NAMES),
    st.builds(lambda name, cut: name[:cut], st.sampled_from(LONG), st.integers(3, 24)),
    st.builds(
        lambda name, text: f"{name}={text}", st.sampled_from(LONG), st.sampled_from(["", "1", "0x10", "a b"])
    ),
    st.text("lpeufSdixyscat", min_size=1, max_size=4).map(lambda letters: "-" + letters),
    st.sampled_from(["--", "-", "K", "ttyS0", "9600", "0x1000", "--bogus", "-Z"]),
)


@given(st.lists(WORDS, max_size=7))
def test_parses_as_getopt_long_does(argv: list[str]) -> None:
    try:
        wanted = expected(argv)
    except (ValueError, UsageError):
        with pytest.raises(UsageError):
            parse(argv, UNDERSTOOD)
        return
    assert vars(parse(argv, UNDERSTOOD)) == {"kernel": None} | wanted


def test_every_abbreviation_means_what_it_does_in_c() -> None:
    for name in LONG:
        for length in range(3, len(name) + 1):
            argv = [name[:length], "1"]
            try:
                wanted = reference(argv, THEIRS)[0][0][0]
            except ValueError:
                with pytest.raises(UsageError):
                    parse(argv)
                continue
            try:
                given = vars(parse(argv))
            except UsageError:
                assert THEIRS[wanted].convert is not None  # "1" is no serial port
                continue
            assert THEIRS[wanted].field in given


def test_ambiguous_names_are_listed() -> None:
    with pytest.raises(UsageError, match=r"'--reuse' is ambiguous: .*--reuseinitrd.*--reuse-cmdline"):
        parse(["--reuse"])


def test_our_own_options_have_no_abbreviations() -> None:
    for option, length in itertools.product([each for each in OPTIONS if each.ours], range(3, 20)):
        name = option.names[0]
        if length >= len(name):
            continue
        try:
            given = parse([name[:length], "x"]).given()
        except UsageError:
            continue
        assert option.field not in given


def test_a_command_line_that_lost_its_quotes_is_not_cut_silently() -> None:
    with pytest.raises(UsageError, match=r"unexpected argument 'ro' after the kernel K"):
        parse(["-l", "K", "--append=root=/dev/sda1", "ro"])


@pytest.mark.parametrize("argv", [["-h", "--bogus"], ["-v", "-Z"], ["-l", "--help", "--append"]])
def test_nothing_after_help_and_version_is_looked_at(argv: list[str]) -> None:
    options = parse(argv)
    assert options.help or options.version


NUMBERS = ["0", "16", "020", "0x10", "0XfF", "4294967296", "0xffffffffffffffff"]
NO_NUMBERS = ["", "x", "0x", "08", "1k", "-1", "1_0", " 1", "0x1_0", "0x10000000000000000", "٣", "0b1"]


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_as_strtoul_reads_them(text: str) -> None:
    libc = ctypes.CDLL(None)
    libc.strtoul.restype = ctypes.c_ulong
    assert number("--entry", text) == libc.strtoul(text.encode(), None, 0)


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="Bad option value in --entry="):
        number("--entry", text)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--serial=COM1"], "Bad serial port base 'COM1'"),
        (["--serial=0x10000"], "Bad serial port base '0x10000'"),
        (["--serial-baud=0"], "Bad serial port baud rate '0'"),
        (["--serial-baud=9601"], "Bad serial port baud rate '9601'"),
        (["--serial-baud=230400"], "Bad serial port baud rate '230400'"),
    ],
)
def test_bad_serial_ports_are_named(argv: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(argv)


def test_the_table_and_the_fields_agree() -> None:
    fields = set(Options.__annotations__) - {"kernel"}
    assert {option.field for option in OPTIONS} == fields
    for option in OPTIONS:
        assert spelling(option.field) in NAMES + [name for each in OPTIONS for name in each.names]
    names = [name for option in OPTIONS for name in option.names]
    assert len(names) == len(set(names))


def test_what_only_some_architectures_honour_is_said_once() -> None:
    """Of each such option by one name, in its row, in the refusal, and of each architecture."""
    named = [option.special for option in OPTIONS if option.special]
    assert sorted(named) == sorted(SPECIAL)
    for arch in all_architectures():
        assert arch.honours <= set(SPECIAL)


_COMMON_IN_C = "--append --command-line --initrd"
_X86_IN_C = (
    f"{_COMMON_IN_C} --ramdisk --reuse-cmdline --reset-vga --console-vga --console-serial --serial"
    " --serial-baud --elf32-core-headers --elf64-core-headers --pass-memmap-cmdline --noefi"
    " --reuse-video-type --real-mode --entry-32bit --args-elf --args-linux --args-none --module --dtb"
)
_PPC64_IN_C = (
    f"{_COMMON_IN_C} --ramdisk --dtb --devicetreeblob --args-linux --dt-no-old-root --reuse-cmdline"
)
IN_C = {
    "x86_64": _X86_IN_C,
    "i386": _X86_IN_C,
    "arm64": f"{_COMMON_IN_C} --ramdisk --dtb --serial --reuse-cmdline",
    "arm": f"{_COMMON_IN_C} --ramdisk --dtb --atags --image-size --page-offset --dt-no-old-root",
    "riscv64": f"{_COMMON_IN_C} --reuse-cmdline --dtb",
    "loongarch64": f"{_COMMON_IN_C} --ramdisk --reuse-cmdline",
    "ppc64": _PPC64_IN_C,
    "ppc64le": _PPC64_IN_C,
    "s390x": f"{_COMMON_IN_C} --reuse-cmdline",
    "sh": "--append",
    "ppc": f"{_COMMON_IN_C} --dtb",
}
"""What kexec-tools takes on one architecture or another (kexec/arch/*/include/arch/options.h), besides what
it takes on all."""
_REFUSED = {(arch, "--dtb"): "only the C tool's 32-bit loader has it" for arch in ("x86_64", "i386")}


@pytest.mark.parametrize("arch", all_architectures(), ids=lambda arch: arch.name)
def test_an_architecture_honours_what_it_does_in_c(arch: Arch) -> None:
    """Others are refused, or make no difference: scripts may pass some of them on any machine."""
    in_c = set(IN_C[arch.name].split())
    special = {name: option.special for option in OPTIONS for name in option.names if option.special}
    assert in_c <= set(NAMES)
    refused = {name for name in in_c & set(special) if special[name] not in arch.honours}
    assert refused == {name for of, name in _REFUSED if of == arch.name}
    others = {name for names in IN_C.values() for name in names.split()} - in_c
    by_another_name = {special[name] for name in in_c & set(special)}
    assert not {name for name in others & set(special) if special[name] in arch.honours - by_another_name}


def test_a_request_tells_which_options_it_was_made_of() -> None:
    for option in OPTIONS:
        if option.special or option.needs_kexec_load:
            assert not Request().asks(option)
    asked = Request(modules=(), hand_over_efi=False, within=Range(0, 1 << 32), console=Console(vga=True))
    assert {option.field for option in OPTIONS if option.needs_kexec_load and asked.asks(option)} == {
        *("no_efi", "mem_min", "mem_max", "console_vga"),
    }
