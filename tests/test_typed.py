"""What stands for `typing.NamedTuple` makes what that makes, but sooner."""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from vmpilot.migrate import typed

FIELDS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
BOTH = (NamedTuple, typed.NamedTuple)


def made(base: Any, count: int, optional: int) -> Any:
    """Return a class with so many fields, of which the last ones can be left out."""
    fields = "".join(f"    {name}: int\n" for name in FIELDS[: count - optional])
    others = "".join(
        f"    {name}: int = {index}\n" for index, name in enumerate(FIELDS[count - optional : count])
    )
    names: dict[str, Any] = {"base": base, "__name__": __name__}
    text = (
        f'class Value(base):\n    """One value."""\n{fields}{others}    def second_of(self): return self[1]\n'
    )
    exec(text, names)
    return names["Value"]


def told(act: Callable[[], object]) -> tuple[str, object]:
    try:
        return "", act()
    except Exception as error:
        return type(error).__name__, None


def seen(kind: Any, count: int, optional: int) -> list[object]:
    """Return what can be seen of a class and its values."""
    value = kind(*range(count))
    named = kind(**dict(zip(FIELDS, range(count), strict=False)))
    shorter = kind(*range(count - optional))
    return [
        *(
            repr(value),
            named == value,
            shorter,
            value._asdict(),
            hash(value),
            value[0],
            value[-1:],
            len(value),
        ),
        *(kind.__name__, kind.__qualname__, kind.__module__, kind.__doc__, inspect.signature(kind)),
        *(kind._fields, kind._field_defaults, kind.__match_args__, kind.__annotations__),
        *(kind._make(range(count)), value._replace(first=7), type(value._replace(first=7)) is kind),
        *(copy.copy(value) == value, type(copy.deepcopy(value)) is kind, value < kind(*[9] * count)),
        *(
            [getattr(value, name) for name in FIELDS[:count]],
            isinstance(value, tuple),
            hasattr(value, "__dict__"),
        ),
        *(told(lambda: kind(*range(count + 1))), told(lambda: kind(first=1, nothing=2))),
        *(told(lambda: kind(*range(count - optional - 1))), told(lambda: kind._make(range(count + 1)))),
        told(lambda: kind._make(range(count - 1))),
        *(told(lambda: setattr(value, "first", 1)), told(lambda: setattr(value, "other", 1))),
        told(value.second_of),
    ]


@pytest.mark.parametrize("count", range(1, 13))
def test_a_value_is_what_the_librarys_is(count: int) -> None:
    for optional in range(count + 1):
        theirs, ours = (seen(made(base, count, optional), count, optional) for base in BOTH)
        assert ours == theirs


def test_what_no_field_is_called_cannot_be_replaced() -> None:
    value = made(typed.NamedTuple, 2, 0)(1, 2)
    with pytest.raises(TypeError) as raised:
        value._replace(third=3, fourth=4)
    assert str(raised.value) == "Got unexpected field names: ['third', 'fourth']"


class Kept(typed.NamedTuple):
    """A value that can be found by its name."""

    one: int
    other: str = ""


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_value_can_be_kept(protocol: int) -> None:
    again = pickle.loads(pickle.dumps(Kept(1, "x"), protocol))
    assert (again, type(again)) == (Kept(1, "x"), Kept)


def test_a_value_can_be_taken_apart_by_its_shape() -> None:
    match Kept(1, "x"):
        case Kept(one, other=other):
            assert (one, other) == (1, "x")


def test_a_copy_can_have_other_values() -> None:
    replace: Any = getattr(copy, "replace", Kept._replace)  # since Python 3.13
    assert replace(Kept(1, "x"), one=2) == Kept(2, "x")
