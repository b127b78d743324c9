"""Puts other behaviour into moto's classes without touching its files."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK: Final = "of_the_stand_in"


def wrap(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a class's method by the one that is made around it; a second call by the same maker changes nothing.

    Args:
        owner: the class, or a module.
        name: of the method.
        make: gives the new method; its argument is the one that was there.
    """
    there = getattr(owner, name)
    made_by = getattr(there, _MARK, ())
    if make in made_by:
        return
    new = wraps(there)(make(there))
    setattr(new, _MARK, (*made_by, make))
    setattr(owner, name, new)


def replace(owner: Any, name: str, new: Callable[..., Any]) -> None:
    """Replace a class's method."""
    setattr(owner, name, new)
