"""What a type checker reads of `typing`, for the modules that a start-up loads, and a run.

`import typing` alone takes longer than all else that a start-up with nothing to do has to load. So a checker
sees the real names and a run sees what stands for them here; annotations are not evaluated in those modules.
"""

TYPE_CHECKING = (
    False  # a checker takes it for true: https://peps.python.org/pep-0484/#runtime-or-type-checking
)
if TYPE_CHECKING:
    from typing import Any as Any
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import TextIO as TextIO
    from typing import TypeVar as TypeVar
    from typing import cast as cast
else:
    from collections import namedtuple

    Any = NoReturn = Protocol = TextIO = object
    TypeVar = str  # its name will do

    def cast(kind, value):
        """Return a value as it is."""
        return value

    class _Named(type):
        """Makes of a class body what `typing.NamedTuple` makes of it."""

        def __new__(cls, name, bases, body):
            # Since Python 3.14 a body has them only where they are texts in its module, and else a function
            # that makes them: https://peps.python.org/pep-0749/
            evaluate = body.pop("__annotate_func__", None)
            fields = evaluate(1) if evaluate else body["__annotations__"]
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body.pop("__module__"))
            made.__new__.__annotations__ = fields  # what documentation shows
            for attribute, value in body.items():
                setattr(made, attribute, value)
            return made

    NamedTuple = type.__new__(_Named, "NamedTuple", (), {})
