"""Commands and their options as data: parsed here, or by Click if a command line is unusual.

Importing Click takes as long as inspecting a checkpoint. It prints help, errors and completions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lstmstate.type_names import Any

Json = dict[str, Any]


def refuse(*problems: tuple[object, str]) -> None:
    """Raise a UsageError for the first condition that is true."""
    for is_there, problem in problems:
        if is_there:
            from click import UsageError

            raise UsageError(problem)


class CommandOption:
    """An option for a field of `Options`.

    Args:
        words: the help.
        kind: the choices, or a function that returns a value or raises a ValueError.
        flags: its flags, named as the field unless given.
        how: more parameters of Click's option.
    """

    def __init__(self, words: str, kind: Any, metavar: str | None, flags: str, how: Json) -> None:
        self.words, self.kind, self.metavar = words, kind, metavar
        self.flags, self.how = flags.split(), how
        self.is_flag = self.is_repeated = False
        self.default: Any = None

    def __set_name__(self, owner: type, name: str) -> None:
        """Take the flags and the arity from the name and the type of the field."""
        declared = owner.__annotations__[name]
        word = name.replace("_", "-")
        self.is_flag = declared.startswith("bool")
        self.is_repeated = declared.startswith("tuple")
        if not self.flags:
            opposite = f"/--no-{word}" if declared == "bool | None" else ""
            self.flags = [f"--{word}{opposite}"]
        absent = {"bool": False}.get(declared, () if self.is_repeated else None)
        self.default = self.how.get("default", absent)
        if self.is_flag:
            self.how["default"] = self.default  # Click's own would be False

    def values(self) -> dict[str, bool | None]:
        """Return each flag with its value, None if one follows it."""
        named = [flag.split("/") for flag in self.flags]
        values: list[bool | None] = [True, False] if self.is_flag else [None]
        return {flag: value for pair in named for flag, value in zip(pair, values, strict=False)}

    def value(self, text: str) -> Any:
        """Return a value."""
        if isinstance(self.kind, tuple):
            return self.kind[self.kind.index(text)]
        return text if self.kind is None else self.kind(text)


def option(
    words: str, kind: Any = None, metavar: str | None = None, *, flags: str = "", **how: Any
) -> Any:
    """Return an option for a field of `Options`; see `CommandOption`."""
    return CommandOption(words, kind, metavar, flags, how)


class Options:
    """A record of options, a field for each, made with `option`.

    A field `bool` is a flag, `bool | None` a flag with its opposite; a `tuple` may be repeated.
    """

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)  # in the user's order

    @classmethod
    def fields(cls) -> dict[str, CommandOption]:
        """Return the options by their fields, those of the class before those of its bases."""
        return {
            name: one
            for owner in cls.__mro__
            for name, one in vars(owner).items()
            if isinstance(one, CommandOption)
        }

    def check(self) -> None:
        """Raise a UsageError if the options contradict one another."""


class Command:
    """A command: its arguments, its records of options, and the function that it calls.

    Args:
        arguments: metavars by parameter: "[...]" may be absent, and "..." is several.
    """

    def __init__(
        self,
        function: Callable[..., int | None],
        epilog: str,
        records: Sequence[type[Options]],
        arguments: dict[str, str],
    ) -> None:
        self.function, self.epilog, self.records = function, epilog, records
        self.arguments = arguments

    def options(self) -> dict[str, CommandOption]:
        """Return the options by their fields."""
        return {name: one for record in self.records for name, one in record.fields().items()}

    def call(self, **values: Any) -> int | None:
        """Call the function with its arguments and its records."""
        made: dict[str, Options] = {}
        for record in self.records:
            fields = record.fields()
            own = [name for name in values if name in fields]
            parameter = re.sub("(?<!^)(?=[A-Z])", "_", record.__name__).lower()
            made[parameter] = record(**{name: values.pop(name) for name in own})
        for one in made.values():
            one.check()
        return self.function(**values, **made)

    def parse(self, words: list[str]) -> Json | None:
        """Return the values of a plain command line, None for one that Click has to parse."""
        options = self.options()
        flags = {
            flag: (name, value)
            for name, one in options.items()
            for flag, value in one.values().items()
        }
        values: Json = {}
        texts: list[str] = []
        rest = iter(words)
        for word in rest:
            if word == "-" or not word.startswith("-"):
                texts.append(word)
                continue
            flag, is_joined, text = word.partition("=")
            name, value = flags.get(flag, ("", None))
            one = options.get(name)
            if one is None or "nargs" in one.how or (is_joined and (one.is_flag or len(flag) == 2)):
                return None
            if not one.is_flag:
                text = text if is_joined else next(rest, "--")
                if text.startswith("-") and text != "-" and not is_joined:
                    return None
                try:
                    value = one.value(text)
                except ValueError:
                    return None
            values[name] = (*values.get(name, ()), value) if one.is_repeated else value
        absent = {name: one for name, one in options.items() if name not in values}
        arguments = self._arguments(texts)
        if arguments is None or any("required" in one.how for one in absent.values()):
            return None
        return arguments | values | {name: one.default for name, one in absent.items()}

    def _arguments(self, texts: list[str]) -> Json | None:
        """Return the arguments, None if there are too few or too many."""
        found: Json = {}
        for name, metavar in self.arguments.items():
            if "..." in metavar:
                found[name], texts = tuple(texts), []
            elif texts:
                found[name], *texts = texts
            elif metavar.startswith("["):
                found[name] = None
            if not found.get(name) and not metavar.startswith("["):
                return None
        return None if texts else found


def define(
    epilog: str, *records: type[Options], **arguments: str
) -> Callable[[Callable[..., int | None]], Command]:
    """Return a decorator that makes a command of a function.

    The parameters for the records have the names of their classes: `part` is a `Part`, and
    `split_options` a `SplitOptions`.
    """
    return lambda function: Command(function, epilog, records, arguments)
