"""A job's spec as text, JSON or YAML, read as the gateway's own parser would: a scalar keeps the characters it was written with."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import yaml

from data_platform.batch_gateway.spec_form import misfit

_NULL: Final = "tag:yaml.org,2002:null"


class _Loader(yaml.BaseLoader):
    """YAML whose scalars stay texts: 3.10 stays 3.10, a date stays a date's text, ``no`` stays a word. Only null is nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """An object, whose keys must differ: YAML lets the last one win silently."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and keys.count(key.value) > 1:
                problem = f"the key {key.value!r} more than once"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        return dict(super().construct_mapping(node, deep=deep))


_Loader.add_implicit_resolver(_NULL, re.compile(r"(~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_constructor(_NULL, lambda loader, node: None)


def parse(text: str) -> Any:
    """Read JSON or YAML.

    Raises:
        Misfit: it is neither. The message shows nothing of the text but its place, for there may be secrets in it.
    """
    try:
        return json.loads(text, parse_float=str, object_pairs_hook=_object)
    except json.JSONDecodeError as not_json:
        looks_like_json = text.lstrip()[:1] in ("{", "[")
        where = f"line {not_json.lineno}, column {not_json.colno}: {not_json.msg}"
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        if not looks_like_json:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or "not YAML"
            where = f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem
        raise misfit("JSON or YAML", f"a fault at {where}") from None
    finally:
        loader.dispose()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise misfit("each key once", f"{', '.join(map(repr, twice))} more than once in one object")
    return dict(pairs)
