"""What an administrator of the gateway configures: clusters, queues, images, users."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSION: Final = "3.5.0"
"""The gateway's name of its Spark image. The local image is PyPI's pyspark of the same line."""


@dataclass(frozen=True)
class Cluster:
    """A Spark cluster: to the gateway, a namespace of a Kubernetes cluster.

    Attributes:
        id: beginning of its submission ids. The real gateway takes what is before the first dash of a submission id for it.
        weight: its share of the submissions that may run on several clusters.
        ui_url: where the UIs of its running applications are; empty means that it tells none.
        ttl_seconds: how long a finished application is kept.
    """

    id: str
    weight: int = 50
    queues: tuple[str, ...] = ("dev", "poc", "secure")
    spark_versions: tuple[str, ...] = (VERSION,)
    namespace: str = "spark-operator"
    service_account: str = "emr-containers-sa-spark"
    ui_url: str = ""
    ttl_seconds: int = 86400


@dataclass(frozen=True)
class Queue:
    """A queue.

    Attributes:
        users: whose submissions go here when they name no queue.
        secure: submissions need a token.
        max_running_millis: the longest time that an application may ask for; None for the gateway's 12 hours.
    """

    name: str
    users: tuple[str, ...] = ()
    secure: bool = False
    max_running_millis: int | None = None


@dataclass(frozen=True)
class Image:
    """A Spark image."""

    name: str
    types: tuple[str, ...] = ("Python", "Java")
    version: str = VERSION


@dataclass(frozen=True)
class GatewayConfig:
    """All of it; the defaults are the local gateway's.

    Attributes:
        listings_per_second: permits of each of the two listings; 20 is fixed in the real gateway.
        history_dns: host of the history server that finished applications are linked to in listings; empty, there is none and no link.
        token_secrets: keys that queue tokens may be signed with; old and new while they are changed.
        seed: of the choice among clusters; None for another each time.
    """

    clusters: tuple[Cluster, ...] = (Cluster("sparkclustera"), Cluster("sparkclusterb"))
    queues: tuple[Queue, ...] = (Queue("dev"), Queue("poc"), Queue("secure", secure=True))
    images: tuple[Image, ...] = (Image("spark:3.5"),)
    base_path: str = "/skatev2"
    allowed_users: tuple[str, ...] = ("*",)
    blocked_users: tuple[str, ...] = ()
    token_secrets: tuple[str, ...] = ("a-secret-that-only-the-stand-in-has-to-know",)
    status_cache_millis: int = 990
    listings_per_second: float = 20.0
    s3_bucket: str = "data-platform"
    s3_folder: str = "spark/uploads"
    history_dns: str = ""
    seed: int | None = None

    def to_json(self) -> str:
        """As a file's text; see `read_config`."""
        return json.dumps(asdict(self))


_PARTS: Final[dict[str, type[Cluster] | type[Queue] | type[Image]]] = {
    "clusters": Cluster,
    "queues": Queue,
    "images": Image,
}


def read_config(path: Path) -> GatewayConfig:
    """Read a file of YAML or JSON; see `parse_config`.

    Raises:
        ValueError: it has a field that there isn't.
    """
    import yaml

    return parse_config(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, str(path))


def parse_config(document: Mapping[str, Any], where: str) -> GatewayConfig:
    """The fields of `GatewayConfig` as a document has them; what it lacks is the local gateway's.

    Raises:
        ValueError: it has a field that there isn't.
    """
    given = _known(GatewayConfig, document, where)
    for name, kind in _PARTS.items():
        if name in given:
            given[name] = tuple(kind(**_known(kind, one, f"{where}: {name}")) for one in given[name])
    return GatewayConfig(**given)


def _known(kind: type[Any], document: Mapping[str, Any], where: str) -> dict[str, Any]:
    names = [one.name for one in fields(kind)]
    if unknown := sorted(set(document) - set(names)):
        raise ValueError(f"{where}: expected only {', '.join(names)}; found {', '.join(unknown)}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}
