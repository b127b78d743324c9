"""The official OCSF schema as the compiler sees it: the type of each attribute, and what its JSON schema asks of it.

The schemas come from the package ``ocsf-json-schema``, which carries the releases of OCSF. Rules are read from the JSON schema of a class
and its profiles, the same document that an outside validator is given, so that the two can only agree; the JSON schema calls an ``ip_t``
and a ``hostname_t`` both a string, so types come from the metaschema beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final

from include.ingestion.ocsf.language import MappingError

_SCALARS: Final = {
    "integer_t": "int32",
    "long_t": "int64",
    "timestamp_t": "ms",
    "boolean_t": "bool",
    "float_t": "double",
    "json_t": "json",
}


@dataclass(frozen=True)
class Attribute:
    """What may stand in one place of an event.

    Attributes:
        name: as OCSF spells it.
        type_name: OCSF's own name of the type (``ip_t``, ``timestamp_t``), or of the object (``network_endpoint``).
        scalar: ``text``, ``int32``, ``int64``, ``ms`` (epoch milliseconds), ``bool``, ``double``, ``json``, or ``object``.
        is_array: whether it holds a list of them.
        required: whether the object or class it is an attribute of must have it.
        enum: the values allowed; empty where any is.
        pattern: a regular expression that some part of a text must match.
        longest: characters at most.
        least: the smallest number allowed.
        most: the greatest.
        shape: for objects: their attributes; none where any are allowed.
    """

    name: str
    type_name: str
    scalar: str
    is_array: bool
    required: bool
    enum: tuple[Any, ...] = ()
    pattern: str | None = None
    longest: int | None = None
    least: int | None = None
    most: int | None = None
    shape: Shape | None = None


class Shape:
    """The attributes of a class or an object. Objects nest without end, so they are looked up as they are asked for."""

    def __init__(self, owner: OcsfClass, name: str, document: dict[str, Any], meta: dict[str, Any]) -> None:
        self.name = name
        self._owner = owner
        self._document = document
        self._meta = meta
        self._known: dict[str, Attribute] = {}

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Names of the attributes that must be there."""
        return tuple(self._document.get("required", ()))

    @cached_property
    def at_least_one(self) -> tuple[str, ...]:
        """Names of the attributes of which one must be there, or more."""
        return tuple(name for one in self._document.get("anyOf", ()) for name in one["required"])

    @cached_property
    def just_one(self) -> tuple[str, ...]:
        """Names of the attributes of which one must be there, and no other."""
        return tuple(name for one in self._document.get("oneOf", ()) for name in one["required"])

    @property
    def free(self) -> bool:
        """Whether any attribute is allowed, as in ``unmapped``."""
        return not self._document.get("properties")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all attributes."""
        return tuple(self._document.get("properties", ()))

    def get(self, name: str) -> Attribute | None:
        """The attribute ``name``, or none where the shape lacks it."""
        if name not in self._document.get("properties", {}):
            return None
        if name not in self._known:
            self._known[name] = self._attribute(name, self._document["properties"][name])
        return self._known[name]

    def _attribute(self, name: str, rule: dict[str, Any]) -> Attribute:
        is_array = rule.get("type") == "array"
        rule = rule["items"] if is_array else rule
        shape = self._owner.shape_of(rule["$ref"].rsplit("/", 1)[1]) if "$ref" in rule else None
        type_name = str((self._meta["attributes"].get(name) or {}).get("type", "string_t"))
        if shape is not None:
            type_name, scalar = shape.name, "json" if shape.free else "object"
        else:
            base = self._owner.base_type(type_name)
            scalar = next((_SCALARS[one] for one in (type_name, base) if one in _SCALARS), "text")
            if isinstance(rule.get("type"), list):
                scalar = "json"
        allowed = rule.get("enum", (rule["const"],) if "const" in rule else ())
        return Attribute(
            name,
            type_name,
            scalar,
            is_array,
            name in self.required,
            tuple(sorted(allowed, key=str)),
            rule.get("pattern"),
            rule.get("maxLength"),
            rule.get("minimum"),
            rule.get("maximum"),
            shape,
        )


class OcsfClass:
    """One event class of one OCSF version, with the attributes that its profiles add."""

    def __init__(self, version: str, name: str, profiles: tuple[str, ...]) -> None:
        from ocsf_json_schema import OcsfJsonSchemaEmbedded

        self._meta = ocsf(version)
        if name not in self._meta["classes"]:
            raise MappingError(
                f"expected a class of OCSF {version}, found {name!r}; its classes: {', '.join(sorted(self._meta['classes']))}"
            )
        if "category_uid" not in self._meta["classes"][name]:
            raise MappingError(
                f"expected a class of OCSF {version} that events can have, found {name!r}, which others extend"
            )
        self.version = version
        self.name = name
        self.profiles = profiles
        self.uid = int(self._meta["classes"][name]["uid"])
        self.caption = str(self._meta["classes"][name]["caption"])
        self.category_uid = int(self._meta["classes"][name]["category_uid"])
        self.category_name = str(self._meta["classes"][name]["category_name"])
        self.json_schema: dict[str, Any] = OcsfJsonSchemaEmbedded(self._meta).get_class_schema(name, list(profiles))
        self._shapes: dict[str, Shape] = {}
        self.shape = Shape(self, name, self.json_schema, self._meta["classes"][name])

    def shape_of(self, name: str) -> Shape:
        """The object ``name``."""
        if name not in self._shapes:
            meta = self._meta["objects"].get(name) or {"attributes": {}}
            self._shapes[name] = Shape(self, name, self.json_schema["$defs"][name], meta)
        return self._shapes[name]

    def base_type(self, name: str) -> str:
        """The type that ``name`` is a kind of: ``string_t`` for ``ip_t``."""
        return str((self._meta["types"].get(name) or {}).get("type", name))


@cache
def ocsf(version: str) -> dict[str, Any]:
    """The metaschema of one release.

    Raises:
        MappingError: a release that the package does not carry.
    """
    from ocsf_json_schema import get_ocsf_schema, get_packaged_versions

    if version not in get_packaged_versions():
        raise MappingError(
            f"expected a packaged OCSF version ({', '.join(get_packaged_versions())}), found {version!r}"
        )
    schema: dict[str, Any] = get_ocsf_schema(version)
    return schema


@cache
def ocsf_class(version: str, name: str, profiles: tuple[str, ...] = ()) -> OcsfClass:
    """The class ``name`` with the attributes that ``profiles`` add; profiles that the release lacks add none."""
    known = {
        attribute.get("profile") for attribute in ocsf(version)["classes"].get(name, {}).get("attributes", {}).values()
    }
    return OcsfClass(version, name, tuple(sorted(set(profiles) & known)))
