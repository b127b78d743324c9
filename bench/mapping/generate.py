"""Generated AWS Network Firewall logs: mostly flows, some alerts, a few TLS inspections, as many as a benchmark wants.

An event is about 480 bytes. The events of one seed are always the same. They come slightly out of order in time, as a
firewall's endpoints write them: an event is up to `LATE_SECONDS` older than its place in the file says.
"""

from __future__ import annotations

import argparse
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

START: Final = datetime(2024, 5, 1, 10, tzinfo=UTC)
EVENTS_PER_SECOND: Final = 300
"""Of the firewall, by its own clock: a million events are a bit less than an hour."""
LATE_SECONDS: Final = 8
LONGEST_FLOW_SECONDS: Final = 600
_CHUNK_EVENTS: Final = 2000
_POOL: Final = 4096

_NETFLOW: Final = (
    '{"firewall_name":"egress","availability_zone":"eu-central-1%s","event_timestamp":"%d","event":{"timestamp":"%s.%06d+0000",'
    '"flow_id":%d,"event_type":"netflow",%s,"netflow":{"pkts":%d,"bytes":%d,"start":"%s.%06d+0000","end":"%s.%06d+0000",'
    '"age":%d,%s}%s}}\n'
)
_ALERT: Final = (
    '{"firewall_name":"egress","availability_zone":"eu-central-1%s","event_timestamp":"%d","event":{"timestamp":"%s.%06d+0000",'
    '"flow_id":%d,"event_type":"alert",%s,"alert":%s}}\n'
)
_TLS: Final = (
    '{"firewall_name":"egress","availability_zone":"eu-central-1%s","event_timestamp":%d,"event":{"timestamp":"%s.%06dZ",%s,'
    '"sni":"host%d.example.com",%s}}\n'
)
_FLAGS: Final = (
    ("02", "syn"),
    ("12", "syn ack"),
    ("1a", "syn psh ack"),
    ("1b", "syn fin psh ack"),
    ("13", "syn fin ack"),
    ("1e", "syn rst psh ack"),
    ("14", "rst ack"),
)
_ALERTS: Final = (
    ("allowed", 1000101, 1, "Plain HTTP leaves the VPC", "Potentially Bad Traffic", 3),
    ("allowed", 1000102, 2, "SSH to an address outside of the allow list", "Attempted Information Leak", 2),
    ("blocked", 1000103, 4, "Domain is not on the allow list", "Potential Corporate Privacy Violation", 1),
    ("blocked", 1000104, 1, "DNS over an unusual port", "Potentially Bad Traffic", 2),
    ("allowed", 2, 0, "", "", 3),
)
_CHECKS: Final = (
    '"revocation_check":{"leaf_cert_fpr":"9c7f21d0a7b3","status":"REVOKED","action":"DROP"}',
    '"revocation_check":{"leaf_cert_fpr":"51aa90c4e001","status":"UNKNOWN","action":"PASS"}',
    '"tls_error":{"error_message":"Server name is not found in client hello."}',
)


class _Parts:
    """What events are put together from; drawn once, so that an event costs little more than its formatting."""

    def __init__(self, random: Random, seconds: int) -> None:
        self.flows = [_flow(random) for _ in range(_POOL)]
        self.text_flows = [_endpoints(random, quoted=True) for _ in range(_POOL)]
        self.alerts = [
            f'{{"action":"{action}","signature_id":{number},"rev":{rev},"signature":"{name}","category":"{category}","severity":{severity}}}'
            for action, number, rev, name, category, severity in _ALERTS
        ]
        first = START - timedelta(seconds=LONGEST_FLOW_SECONDS + LATE_SECONDS)
        self.first = int(first.timestamp())
        self.texts = [
            (first + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
            for second in range(seconds + LONGEST_FLOW_SECONDS + LATE_SECONDS + 1)
        ]


def _address(random: Random) -> str:
    if random.random() < 0.03:
        return f"2001:db8:{random.getrandbits(16):x}::{random.getrandbits(16):x}"
    return random.choice(("10.1.{}.{}", "172.31.{}.{}", "198.18.{}.{}", "203.0.{}.{}")).format(
        random.getrandbits(8), random.getrandbits(8)
    )


def _endpoints(random: Random, *, quoted: bool = False) -> str:
    mark = '"' if quoted else ""
    source, port = (
        _address(random),
        random.choice((443, 443, 443, 80, 53, 22, 123, 8443, random.randrange(1024, 65536))),
    )
    return (
        f'"src_ip":"{source}","src_port":{mark}{random.randrange(1024, 65536)}{mark},'
        f'"dest_ip":"{_address(random)}","dest_port":{mark}{port}{mark}'
    )


def _flow(random: Random) -> tuple[str, str, str]:
    """The endpoints with protocol, the times to live and the TCP part of an event."""
    udp = random.random() < 0.2
    protocol = '"proto":"UDP","app_proto":"dns"' if udp else '"proto":"TCP","app_proto":"tls"'
    ttl = random.choice((62, 63, 126, 241, 254))
    tcp = ""
    if not udp:
        flags, names = random.choice(_FLAGS)
        tcp = f',"tcp":{{"tcp_flags":"{flags}",' + ",".join(f'"{name}":true' for name in names.split()) + "}"
    return f"{_endpoints(random)},{protocol}", f'"min_ttl":{ttl},"max_ttl":{ttl}', tcp


def events(count: int, *, seed: int = 1) -> Iterator[bytes]:
    """Network Firewall events as JSON lines, each with its line's end, in chunks of many lines."""
    random = Random(seed)
    parts = _Parts(random, count // EVENTS_PER_SECOND + 1)
    for start in range(0, count, _CHUNK_EVENTS):
        places = range(start, min(start + _CHUNK_EVENTS, count))
        yield "".join([_event(random, parts, place) for place in places]).encode()


def _event(random: Random, parts: _Parts, place: int) -> str:
    bits = random.getrandbits(96)
    kind, zone, late = bits & 127, "ab"[bits >> 7 & 1], bits >> 8 & 7
    draw, fraction, flow_id = bits >> 12 & 4095, (bits >> 24 & 0xFFFFF) % 1000000, bits >> 46
    second = LONGEST_FLOW_SECONDS + LATE_SECONDS + place // EVENTS_PER_SECOND - late
    logged, time = parts.first + second + 1, parts.texts[second]
    if kind > 6:
        age = draw & 63
        endpoints, ttl, tcp = parts.flows[draw]
        packets = 1 + (bits >> 44 & 127)
        start, end = parts.texts[second - age - 60], parts.texts[second - 60]
        return _NETFLOW % (
            *(zone, logged, time, fraction, flow_id, endpoints, packets, packets * (60 + draw)),
            *(start, fraction ^ 1, end, fraction, age, ttl, tcp),
        )
    if kind > 1:
        return _ALERT % (zone, logged, time, fraction, flow_id, parts.flows[draw][0], parts.alerts[draw % len(_ALERTS)])
    return _TLS % (zone, logged, time, fraction, parts.text_flows[draw], draw, _CHECKS[draw % len(_CHECKS)])


def write(path: Path, count: int, *, seed: int = 1, level: int = 1) -> int:
    """Write so many events as gzip JSON lines.

    Args:
        path: of the file.
        count: of events.
        seed: of what is drawn; the file of one seed, count and level is always the same, byte by byte.
        level: of gzip.

    Returns:
        How many bytes the events have before compression.
    """
    packer = zlib.compressobj(level, wbits=31)
    size = 0
    with path.open("wb") as file:
        for chunk in events(count, seed=seed):
            size += len(chunk)
            file.write(packer.compress(chunk))
        file.write(packer.flush())
    return size


def main() -> None:
    """Write a file of generated events."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{write(arguments.path, arguments.count, seed=arguments.seed)} bytes")


if __name__ == "__main__":
    main()
