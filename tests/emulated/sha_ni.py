"""x86_64's instructions for SHA-256, which Unicorn's CPU has not got (Intel SDM, volume 2)."""

from dataclasses import dataclass

from unicorn.unicorn import Uc
from unicorn.x86_const import UC_X86_REG_RIP, UC_X86_REG_XMM0

_OPCODES = {0xCB: "sha256rnds2", 0xCC: "sha256msg1", 0xCD: "sha256msg2"}
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Executed:
    """An instruction, and the numbers of the vector registers it names."""

    name: str
    target: int
    source: int


def execute(uc: Uc) -> Executed | None:
    """Execute the instruction at RIP and go to the next; None if it is none of these on registers."""
    address = uc.reg_read(UC_X86_REG_RIP)
    code = bytes(uc.mem_read(address, 5))
    rex = code[0] if code[0] & 0xF0 == 0x40 else 0
    length = 5 if rex else 4
    opcode = code[length - 4 : length - 1]
    modrm = code[length - 1]
    if opcode[:2] != b"\x0f\x38" or opcode[2] not in _OPCODES or modrm >> 6 != 3:
        return None
    done = Executed(_OPCODES[opcode[2]], modrm >> 3 & 7 | (rex & 4) << 1, modrm & 7 | (rex & 1) << 3)
    target, source = UC_X86_REG_XMM0 + done.target, UC_X86_REG_XMM0 + done.source
    operation = {"sha256rnds2": _rounds, "sha256msg1": _message1, "sha256msg2": _message2}[done.name]
    words = operation(_words(uc, target), _words(uc, source), _words(uc, UC_X86_REG_XMM0))
    uc.reg_write(target, sum((word & _MASK) << 32 * place for place, word in enumerate(words)))
    uc.reg_write(UC_X86_REG_RIP, address + length)
    return done


def _words(uc: Uc, register: int) -> list[int]:
    """The lowest first."""
    value = uc.reg_read(register)
    return [value >> 32 * place & _MASK for place in range(4)]


def _rotated(word: int, by: int) -> int:
    return (word >> by | word << 32 - by) & _MASK


def _rounds(target: list[int], source: list[int], implicit: list[int]) -> list[int]:
    h, g, d, c = target
    f, e, b, a = source
    for word in implicit[:2]:
        sum1 = _rotated(e, 6) ^ _rotated(e, 11) ^ _rotated(e, 25)
        sum0 = _rotated(a, 2) ^ _rotated(a, 13) ^ _rotated(a, 22)
        first = (h + sum1 + (e & f ^ ~e & g) + word) & _MASK
        second = (sum0 + (a & b ^ a & c ^ b & c)) & _MASK
        a, b, c, d, e, f, g, h = (first + second) & _MASK, a, b, c, (d + first) & _MASK, e, f, g
    return [f, e, b, a]


def _message1(target: list[int], source: list[int], _implicit: list[int]) -> list[int]:
    following = [*target[1:], source[0]]
    return [
        word + (_rotated(after, 7) ^ _rotated(after, 18) ^ after >> 3)
        for word, after in zip(target, following, strict=True)
    ]


def _message2(target: list[int], source: list[int], _implicit: list[int]) -> list[int]:
    words = [source[2], source[3]]
    for place in range(4):
        before = words[place] & _MASK
        words.append(target[place] + (_rotated(before, 17) ^ _rotated(before, 19) ^ before >> 10))
    return words[2:]
