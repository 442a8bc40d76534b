"""Parses PTX text into instructions: the part of the language that compilers emit for a kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from .errors import PtxSyntaxError
from .types import Type, is_type, type_named


@dataclass(frozen=True)
class Register:
    """A register, with its index in the kernel; `negated` for `!%p`."""

    name: str
    index: int
    type: Type
    negated: bool = False


@dataclass(frozen=True)
class Special:
    """A register that the machine sets: `%tid.x`."""

    name: str


@dataclass(frozen=True)
class Immediate:
    """A constant: an integer, or a float's bits with their width (`0f3F800000`: 32)."""

    value: int
    float_bits: int = 0


@dataclass(frozen=True)
class Symbol:
    """A label, a variable or a parameter by name; the result in operand `_` is discarded."""

    name: str


@dataclass(frozen=True)
class Address:
    """`[base+offset]`."""

    base: Register | Symbol | Immediate
    offset: int


@dataclass(frozen=True)
class Vector:
    """`{a, b}`."""

    items: tuple[Operand, ...]


@dataclass(frozen=True)
class Pair:
    """`%r1|%p1`: a result and an additional predicate."""

    first: Operand
    second: Operand


Operand = Register | Special | Immediate | Symbol | Address | Vector | Pair


@dataclass(frozen=True)
class Instruction:
    """`@guard opcode.modifiers operands;` at a line of the text, which errors show."""

    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | None
    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass(frozen=True)
class Parameter:
    """A kernel's parameter; `pointer` is True if it is declared as one."""

    name: str
    type: Type
    pointer: bool


@dataclass
class Kernel:
    """An `.entry` with everything that its instructions refer to."""

    name: str
    target: str
    parameters: tuple[Parameter, ...]
    threads: tuple[int, int, int] | None
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    registers: int = 0
    shared: dict[str, int] = field(default_factory=dict)
    """Offset of each variable in shared memory; the dynamic one (`extern`) comes last."""
    static_shared: int = 0
    """Bytes of shared memory that the kernel declares itself."""


_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<string>"(?:\\.|[^"\\])*")
      | (?P<number>0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}|0[xX][0-9a-fA-F]+U?|0[bB][01]+U?|\d+U?)
      | (?P<word>[%$._a-zA-Z][\w$.:]*)
      | (?P<mark>[{}()\[\],;+\-!@|<>=*])""",
    re.VERBOSE | re.DOTALL,
)
_SPECIAL = re.compile(
    r"%(?:(?:tid|ntid|ctaid|nctaid)\.[xyz]|laneid|warpid|nwarpid|lanemask_(?:eq|lt|le|gt|ge))$"
)
_SKIPPED = {".version", ".address_size", ".file", ".loc", ".pragma"}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


def _tokens(text: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            found = text[at : at + 20].splitlines()[0]
            raise PtxSyntaxError(f"line {line}: cannot read {found!r}")
        kind, token = str(match.lastgroup), match.group()
        if kind == "word" and ":" in token:  # a label, and perhaps text right after it
            token = token[: token.index(":") + 1]
            if token.startswith(":") or "::" in match.group():
                token = match.group()
            kind = "label" if token.endswith(":") else "word"
        if kind != "space":
            yield _Token(kind, token, line)
        line += token.count("\n")
        at += len(token)


def parse_kernel(text: str) -> Kernel:
    """The one kernel of a module.

    Raises:
        PtxSyntaxError: a line cannot be read, or the module does not have exactly one kernel.
    """
    kernels = _Parser(text).module()
    if len(kernels) != 1:
        raise PtxSyntaxError(f"a module with one kernel was wanted; found {len(kernels)}")
    return kernels[0]


class _Parser:
    """Recursive descent over the tokens of a module."""

    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.at = 0
        self.target = ""
        self.shared: dict[str, tuple[int, int, bool]] = {}  # name: bytes, alignment, extern

    # Tokens

    @property
    def next(self) -> _Token:
        if self.at >= len(self.tokens):
            raise PtxSyntaxError("the text ends in the middle of a statement")
        return self.tokens[self.at]

    def take(self, text: str | None = None) -> _Token:
        token = self.next
        if text is not None and token.text != text:
            raise PtxSyntaxError(f"line {token.line}: wanted {text!r}, found {token.text!r}")
        self.at += 1
        return token

    def accept(self, text: str) -> bool:
        if self.next.text == text:
            self.at += 1
            return True
        return False

    def skip_line(self) -> None:
        line = self.next.line
        while self.at < len(self.tokens) and self.tokens[self.at].line == line:
            self.at += 1

    def skip_block(self) -> None:
        self.take("{")
        depth = 1
        while depth:
            depth += {"{": 1, "}": -1}.get(self.take().text, 0)

    def integer(self) -> int:
        return _integer(self.take())

    # Module scope

    def module(self) -> list[Kernel]:
        kernels: list[Kernel] = []
        while self.at < len(self.tokens):
            word = self.next.text
            if word == ".target":
                self.take()
                self.target = self.take().text
                self.skip_line_of_target()
            elif word in _SKIPPED:
                self.skip_line()
            elif word == ".section":
                while self.next.text != "{":
                    self.take()
                self.skip_block()
            elif word in (".visible", ".weak", ".extern"):
                self.take()
                if self.next.text == ".shared":
                    self.shared_variable(extern=word == ".extern")
            elif word == ".shared":
                self.shared_variable(extern=False)
            elif word == ".global":  # strings; a kernel that uses one is refused later
                while self.take().text != ";":
                    pass
            elif word == ".entry":
                kernels.append(self.entry())
            else:
                raise PtxSyntaxError(
                    f"line {self.next.line}: {word!r} is not known at module level"
                )
        return kernels

    def skip_line_of_target(self) -> None:
        while self.at < len(self.tokens) and self.accept(","):
            self.take()

    def shared_variable(self, *, extern: bool) -> None:
        self.take(".shared")
        alignment, size = 1, 0
        if self.accept(".align"):
            alignment = self.integer()
        kind = self.type()
        name = self.take().text
        count = 1
        while self.accept("["):
            count *= 0 if self.next.text == "]" else self.integer()
            self.take("]")
        self.take(";")
        size = kind.size * count
        self.shared[name] = (size, max(alignment, kind.size), extern)

    def type(self) -> Type:
        token = self.take()
        if not is_type(token.text.removeprefix(".")):
            raise PtxSyntaxError(f"line {token.line}: wanted a type, found {token.text!r}")
        return type_named(token.text.removeprefix("."))

    def entry(self) -> Kernel:
        self.take(".entry")
        name = self.take().text
        parameters = []
        if self.accept("("):
            while not self.accept(")"):
                parameters.append(self.parameter())
                self.accept(",")
        threads = None
        while self.next.text != "{":
            directive = self.take()
            if directive.text in (".reqntid", ".maxntid"):
                sizes = [self.integer()]
                while self.accept(","):
                    sizes.append(self.integer())
                x, y, z = (*sizes, 1, 1)[:3]
                threads = (x, y, z)
            elif directive.text in (".minnctapersm", ".maxnreg"):
                self.integer()
            else:
                raise PtxSyntaxError(
                    f"line {directive.line}: unknown directive {directive.text!r} of a kernel"
                )
        kernel = Kernel(name, self.target, tuple(parameters), threads)
        self.take("{")
        self.block(kernel, {})
        self.place_shared(kernel)
        missing = {
            operand.name
            for instruction in kernel.instructions
            if instruction.opcode == "bra"
            for operand in instruction.operands
            if isinstance(operand, Symbol) and operand.name not in kernel.labels
        }
        if missing:
            raise PtxSyntaxError(f"{name} branches to unknown labels: {', '.join(sorted(missing))}")
        return kernel

    def parameter(self) -> Parameter:
        self.take(".param")
        kind = self.type()
        pointer = self.accept(".ptr")
        if pointer:
            while self.next.text in (".global", ".shared", ".align"):
                if self.take().text == ".align":
                    self.integer()
        return Parameter(self.take().text, kind, pointer)

    def place_shared(self, kernel: Kernel) -> None:
        offset = 0
        for extern in (False, True):
            for name, (size, alignment, is_extern) in self.shared.items():
                if is_extern == extern:
                    offset = -(-offset // alignment) * alignment
                    kernel.shared[name] = offset
                    offset += size
            if not extern:
                kernel.static_shared = offset

    # Inside a kernel

    def block(self, kernel: Kernel, outer: dict[str, Register]) -> None:
        """Statements up to the closing brace. Names of the block hide those of outer blocks."""
        names = dict(outer)
        while not self.accept("}"):
            token = self.next
            if token.text == "{":
                self.take()
                self.block(kernel, names)
            elif token.kind == "label":
                self.take()
                kernel.labels[token.text[:-1]] = len(kernel.instructions)
            elif token.text == ".reg":
                self.registers(kernel, names)
            elif token.text == ".shared":
                self.shared_variable(extern=False)
            elif token.text in _SKIPPED:
                self.skip_statement_or_line()
            elif token.text == ";":
                self.take()
            else:
                kernel.instructions.append(self.instruction(names))

    def skip_statement_or_line(self) -> None:
        if self.next.text == ".pragma":
            while self.take().text != ";":
                pass
        else:
            self.skip_line()

    def registers(self, kernel: Kernel, names: dict[str, Register]) -> None:
        """`.reg .b32 %r<4>, %x;`."""
        self.take(".reg")
        kind = self.type()
        while True:
            prefix = self.take().text
            found = [prefix]
            if self.accept("<"):
                found = [f"{prefix}{number}" for number in range(self.integer())]
                self.take(">")
            for name in found:
                names[name] = Register(name, kernel.registers, kind)
                kernel.registers += 1
            if not self.accept(","):
                break
        self.take(";")

    def instruction(self, names: dict[str, Register]) -> Instruction:
        first = self.at
        line = self.next.line
        guard = None
        if self.accept("@"):
            negated = self.accept("!")
            guard = self.register(names, negated=negated)
        word = self.take()
        if word.kind != "word" or not word.text[0].isalpha():
            raise PtxSyntaxError(f"line {line}: wanted an instruction, found {word.text!r}")
        opcode, *modifiers = word.text.split(".")
        operands: list[Operand] = []
        while not self.accept(";"):
            operands.append(self.operand(names))
            if self.next.text != ";":
                self.take(",")
        text = " ".join(token.text for token in self.tokens[first : self.at - 1])
        return Instruction(opcode, tuple(modifiers), tuple(operands), guard, line, text)

    def register(self, names: dict[str, Register], *, negated: bool = False) -> Register:
        token = self.take()
        if token.text not in names:
            raise PtxSyntaxError(f"line {token.line}: {token.text} is not declared")
        found = names[token.text]
        return Register(found.name, found.index, found.type, negated)

    def operand(self, names: dict[str, Register]) -> Operand:
        operand = self.simple_operand(names)
        if self.accept("|"):
            return Pair(operand, self.simple_operand(names))
        return operand

    def simple_operand(self, names: dict[str, Register]) -> Operand:
        token = self.next
        if self.accept("{"):
            items = []
            while not self.accept("}"):
                items.append(self.operand(names))
                self.accept(",")
            return Vector(tuple(items))
        if self.accept("["):
            return self.address(names)
        if self.accept("!"):
            return self.register(names, negated=True)
        if self.accept("-"):
            return Immediate(-self.integer())
        if token.kind == "number":
            return _immediate(self.take())
        if token.text in names:
            return self.register(names)
        if _SPECIAL.match(token.text):
            return Special(self.take().text)
        if token.kind == "word" and not token.text.startswith("%"):
            return Symbol(self.take().text)
        raise PtxSyntaxError(f"line {token.line}: {token.text} is not declared")

    def address(self, names: dict[str, Register]) -> Address:
        base = self.simple_operand(names)
        if not isinstance(base, Register | Symbol | Immediate):
            raise PtxSyntaxError(f"line {self.next.line}: no address starts with {base}")
        offset = 0
        if self.next.text in ("+", "-"):
            sign = -1 if self.take().text == "-" else 1
            sign = -sign if self.accept("-") else sign  # [%r1+-4]
            offset = sign * self.integer()
        self.take("]")
        return Address(base, offset)


def _integer(token: _Token) -> int:
    if token.kind != "number" or token.text[:2].lower() in ("0f", "0d"):
        raise PtxSyntaxError(f"line {token.line}: wanted an integer, found {token.text!r}")
    return int(token.text.rstrip("U"), 0)


def _immediate(token: _Token) -> Immediate:
    if token.text[:2].lower() == "0f":
        return Immediate(int(token.text[2:], 16), 32)
    if token.text[:2].lower() == "0d":
        return Immediate(int(token.text[2:], 16), 64)
    return Immediate(_integer(token))
