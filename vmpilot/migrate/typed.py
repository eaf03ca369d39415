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
    try:
        from _collections import _tuplegetter as _field
    except ImportError:  # as https://github.com/python/cpython/blob/3.13/Lib/collections/__init__.py does
        from operator import itemgetter

        def _field(index, doc):
            return property(itemgetter(index), doc=doc)

    Any = NoReturn = Protocol = TextIO = object
    TypeVar = str  # its name will do

    def cast(kind, value):
        """Return a value as it is."""
        return value

    # `collections.namedtuple` compiles such a function from text for each class, which takes more than a
    # twentieth of a start-up. Here are those of all lengths; a class has one with the names of its fields.
    _new = tuple.__new__
    _MAKERS = (
        lambda cls: _new(cls, ()),
        lambda cls, a: _new(cls, (a,)),
        lambda cls, a, b: _new(cls, (a, b)),
        lambda cls, a, b, c: _new(cls, (a, b, c)),
        lambda cls, a, b, c, d: _new(cls, (a, b, c, d)),
        lambda cls, a, b, c, d, e: _new(cls, (a, b, c, d, e)),
        lambda cls, a, b, c, d, e, f: _new(cls, (a, b, c, d, e, f)),
        lambda cls, a, b, c, d, e, f, g: _new(cls, (a, b, c, d, e, f, g)),
        lambda cls, a, b, c, d, e, f, g, h: _new(cls, (a, b, c, d, e, f, g, h)),
        lambda cls, a, b, c, d, e, f, g, h, i: _new(cls, (a, b, c, d, e, f, g, h, i)),
        lambda cls, a, b, c, d, e, f, g, h, i, j: _new(cls, (a, b, c, d, e, f, g, h, i, j)),
        lambda cls, a, b, c, d, e, f, g, h, i, j, k: _new(cls, (a, b, c, d, e, f, g, h, i, j, k)),
        lambda cls, a, b, c, d, e, f, g, h, i, j, k, m: _new(cls, (a, b, c, d, e, f, g, h, i, j, k, m)),
    )

    def _maker(name, fields, defaults):
        given = _MAKERS[len(fields)]
        code = given.__code__.replace(
            co_varnames=("_cls", *fields), co_name="__new__", co_qualname=f"{name}.__new__"
        )
        return type(given)(code, given.__globals__, "__new__", defaults)

    class _Value(tuple):
        """What all of them can do: https://docs.python.org/3/library/collections.html#collections.namedtuple"""

        __slots__ = ()

        @classmethod
        def _make(cls, values):
            made = _new(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, /, **changes):
            made = _new(type(self), map(changes.pop, self._fields, self))
            if changes:
                raise TypeError(f"Got unexpected field names: {list(changes)!r}")
            return made

        __replace__ = _replace  # for copy.replace(), since Python 3.13

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(map('{}={!r}'.format, self._fields, self))})"

        def __getnewargs__(self):
            return tuple(self)

    class _Named(type):
        """Makes of a class body what `typing.NamedTuple` makes of it."""

        def __new__(cls, name, bases, body):
            # Since Python 3.14 a body has them only where they are texts in its module, and else a function
            # that makes them: https://peps.python.org/pep-0749/
            evaluate = body.pop("__annotate_func__", None)
            if evaluate:
                body["__annotations__"] = evaluate(1)
            fields = tuple(body["__annotations__"])
            defaults = {field: body.pop(field) for field in fields if field in body}
            made = _maker(name, fields, tuple(defaults.values()))
            made.__annotations__ = body["__annotations__"]  # what documentation shows
            found = {field: _field(index, None) for index, field in enumerate(fields)}
            known = {
                "__slots__": (),
                "_fields": fields,
                "_field_defaults": defaults,
                "__match_args__": fields,
            }
            return type(name, (_Value,), {**known, **found, "__new__": made, **body})

    NamedTuple = type.__new__(_Named, "NamedTuple", (), {})
