"""The stack machine of the pickle format, reduced to what makes tuples, lists and named calls.

A pickle is a program; CPython's Lib/pickletools.py describes its instructions, PEP 3154 and PEP
574 those of protocols 4 and 5. Here they are carried out by hand, and none of them calls or
imports anything: a name is looked up in a table of its user's, and a call is kept as a `Call`.
Each byte is read once, so that the checked bytes are the used ones.
"""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from lstmstate import limits
from lstmstate.errors import CorruptError, UnsupportedError, printable


class Call:
    """A call that a pickle asks for, its arguments, and the state for the result."""

    __match_args__ = ("name", "arguments", "state")
    __slots__ = __match_args__

    def __init__(self, name: object, arguments: tuple[object, ...]) -> None:
        self.name = name
        self.arguments = arguments
        self.state: object = None


class Machine:
    """A stack, a memo, and a place in the bytes.

    Args:
        data: the bytes of the file.
        names: the value of each (module, name) that a file may ask for.
        advice: what to do about anything else.
        most: instructions to carry out; those of a state if it is 0.

    Attributes:
        own: more instructions that put a value on the stack, or other ones.

    Example:
        >>> Machine(b"(K\\x01(lt.", {}, "").run()
        (1, [])
    """

    own: ClassVar[Mapping[bytes, Callable[[Any], object]]] = {}

    def __init__(
        self, data: bytes, names: Mapping[tuple[str, str], object], advice: str, most: int = 0
    ) -> None:
        self.data = data
        self.at = 0
        self.names = names
        self.advice = advice
        self.most = most or limits.MAX_PICKLE_OPCODES
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        """Return the result: Nones, numbers, texts, bytes, tuples, lists and Calls."""
        values, push = {**_VALUES, **self.own}, self.stack.append
        try:
            for _ in range(self.most):
                code = self.data[self.at : self.at + 1]  # as `take`, which takes twice as long
                self.at += 1
                if code in values:
                    push(values[code](self))
                elif code in _ACTIONS:
                    _ACTIONS[code](self)
                elif code == b".":
                    return self.pop()
                elif code:
                    words = _REFUSED.get(code, f"the instruction {code!r}")
                    raise UnsupportedError(f"it holds {words}", advice=self.advice)
                else:
                    self.take(0)
        except ValueError:  # of int(), decode() and escape_decode()
            raise damaged("a number or a text in it is not one") from None
        raise UnsupportedError(f"it has more than {self.most} instructions", advice=self.advice)

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes, which have to be there."""
        start, self.at = self.at, self.at + length
        if self.at > len(self.data):
            raise damaged(f"it is cut short: {len(self.data)} bytes are not all")
        return self.data[start : self.at]

    def number(self, size: int, *, signed: bool = False) -> int:
        """Return the number that the next `size` bytes are."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def block(self, size: int) -> bytes:
        """Return bytes that follow their count, a number of `size` bytes."""
        return self.take(self.number(size))

    def line(self) -> bytes:
        """Return the rest of the line."""
        end = self.data.find(b"\n", self.at)
        return self.take((end if end >= 0 else len(self.data)) + 1 - self.at)[:-1]

    def decimal(self) -> int:
        """Return the number that is the rest of the line."""
        line = self.line()
        if len(line) > 32:  # a long one would take int() long
            raise damaged("a number in it has more digits than any has")
        return int(line.rstrip(b"L"))

    def literal(self) -> bytes:
        """Return the bytes that the rest of the line is the literal of, as Python 2 writes it."""
        line = self.line()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[:1] != line[-1:]:
            raise damaged("a text in it has no quotes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which an escape that is none would cause
            return codecs.escape_decode(line[1:-1])[0]

    def pop(self) -> object:
        """Take the last value from the stack."""
        if not self.stack:
            raise damaged("it takes more from the stack than it put there")
        return self.stack.pop()

    def last(self, count: int) -> tuple[object, ...]:
        """Take the last values from the stack."""
        start = len(self.stack) - count
        if start < 0:
            raise damaged("it takes more from the stack than it put there")
        values = tuple(self.stack[start:])
        del self.stack[start:]
        return values

    def pop_to_mark(self) -> tuple[object, ...]:
        """Take the values that follow the last mark from the stack."""
        if not self.marks:
            raise damaged("it takes more from the stack than it put there")
        start = self.marks.pop()
        values = tuple(self.stack[start:])
        del self.stack[start:]
        return values

    def mark(self) -> None:
        """Note how high the stack is."""
        self.marks.append(len(self.stack))

    def extend(self, values: tuple[object, ...]) -> None:
        """Append to the list that is the last on the stack."""
        target = self.pop()
        if type(target) is not list:
            raise damaged("it appends to a value that is not a list")
        target.extend(values)
        self.stack.append(target)

    def put(self, index: int) -> None:
        """Remember the last value; an index counts those before, or some of them.

        Python's hashes of larger numbers repeat, and a memo of such takes the square of its time.
        """
        if index > self.most // 2:  # an instruction makes a value, and another one numbers it
            raise damaged("it numbers its values beyond their count")
        if not self.stack:
            raise damaged("it takes more from the stack than it put there")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> object:
        """Return a value from the memo."""
        if index not in self.memo:
            raise damaged("it refers to a value that it does not have")
        return self.memo[index]

    def name(self, module: object, name: object) -> object:
        """Return the value of a name, which is looked up in the table and nowhere else."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise damaged("a name in it is not a text")
        if (module, name) not in self.names:
            raise UnsupportedError(
                f"it asks for {shown(f'{module}.{name}')}, which is never called",
                advice=self.advice,
            )
        return self.names[module, name]

    def call(self) -> object:
        """Return a placeholder for the result of a call."""
        name, arguments = self.last(2)
        if not isinstance(arguments, tuple):
            raise damaged("a call in it has no arguments")
        return Call(name, arguments)

    def fill(self) -> None:
        """Note the state that is to be given to the result of a call."""
        target, state = self.last(2)
        if not isinstance(target, Call):
            raise damaged("it gives a state to a value without one")
        target.state = state
        self.stack.append(target)

    def protocol(self) -> None:
        """Check the declared protocol."""
        if (protocol := self.number(1)) > 5:
            raise UnsupportedError(f"it is of protocol {protocol}, and 0 to 5 are read")

    def frame(self) -> None:
        """Step into a frame, which is only a hint to read ahead."""
        if self.number(8) > len(self.data) - self.at:
            raise damaged(f"it is cut short: {len(self.data)} bytes are not all")


def is_instruction(code: bytes) -> bool:
    """Whether a byte is an instruction that can begin a pickle of protocol 2 or later."""
    return code in _VALUES or code in _ACTIONS or code in _REFUSED


def damaged(problem: str) -> CorruptError:
    """Return the error to raise for a pickle that is damaged."""
    return CorruptError(f"the pickle is damaged: {problem}")


def shown(name: str) -> str:
    """Return a name from a file as it can be printed, shortened."""
    return printable(name if len(name) <= 100 else f"{name[:97]}...")


# The instructions that put a value on the stack.
_VALUES: dict[bytes, Callable[[Any], object]] = {
    b"N": lambda _: None,
    b"\x88": lambda _: True,
    b"\x89": lambda _: False,
    b"I": Machine.decimal,
    b"L": Machine.decimal,
    b"J": lambda machine: machine.number(4, signed=True),
    b"K": lambda machine: machine.number(1),
    b"M": lambda machine: machine.number(2),
    b"\x8a": lambda machine: int.from_bytes(machine.block(1), "little", signed=True),
    b"S": Machine.literal,
    b"T": lambda machine: machine.block(4),
    b"U": lambda machine: machine.block(1),
    b"B": lambda machine: machine.block(4),
    b"C": lambda machine: machine.block(1),
    b"\x8e": lambda machine: machine.block(8),
    b"\x96": lambda machine: machine.block(8),
    b"V": lambda machine: machine.line().decode("raw_unicode_escape"),
    b"X": lambda machine: machine.block(4).decode("utf-8", "surrogatepass"),
    b"\x8c": lambda machine: machine.block(1).decode("utf-8", "surrogatepass"),
    b"\x8d": lambda machine: machine.block(8).decode("utf-8", "surrogatepass"),
    b"]": lambda _: [],
    b"l": lambda machine: list(machine.pop_to_mark()),
    b"}": lambda _: {},
    b")": lambda _: (),
    b"t": Machine.pop_to_mark,
    b"\x85": lambda machine: machine.last(1),
    b"\x86": lambda machine: machine.last(2),
    b"\x87": lambda machine: machine.last(3),
    b"g": lambda machine: machine.get(machine.decimal()),
    b"h": lambda machine: machine.get(machine.number(1)),
    b"j": lambda machine: machine.get(machine.number(4)),
    b"c": lambda machine: machine.name(machine.line().decode(), machine.line().decode()),
    b"\x93": lambda machine: machine.name(*machine.last(2)),
    b"R": lambda machine: machine.call(),
    b"\x81": lambda machine: machine.call(),
}

# Those that do something else.
_ACTIONS: dict[bytes, Callable[[Machine], None]] = {
    b"(": Machine.mark,
    b"a": lambda machine: machine.extend(machine.last(1)),
    b"e": lambda machine: machine.extend(machine.pop_to_mark()),
    b"p": lambda machine: machine.put(machine.decimal()),
    b"q": lambda machine: machine.put(machine.number(1)),
    b"r": lambda machine: machine.put(machine.number(4)),
    b"\x94": lambda machine: machine.put(len(machine.memo)),
    b"b": lambda machine: machine.fill(),
    b"\x80": Machine.protocol,
    b"\x95": Machine.frame,
}

# What those that are not carried out are for.
_REFUSED = {
    **dict.fromkeys((b"d", b"s", b"u"), "a dict or a structured dtype"),
    **dict.fromkeys((b"F", b"G"), "a float"),
    **dict.fromkeys((b"\x8f", b"\x90", b"\x91"), "a set"),
    **dict.fromkeys((b"P", b"Q"), "a persistent id: an object outside the file"),
    **dict.fromkeys((b"\x82", b"\x83", b"\x84"), "an extension code: a registered class"),
    **dict.fromkeys((b"\x97", b"\x98"), "an array with its bytes outside the file"),
    **dict.fromkeys((b"i", b"o", b"\x92"), "an object of a class"),
    b"\x8b": "an integer of any length",
}
