"""Every supported type, there and back: writes an Avro file, and later holds the topic's Iceberg table against it.

usage: every_type.py write SCHEMA.avsc EVENTS.avro ROWS
       every_type.py compare EVENTS.avro METADATA_URI
"""

import datetime as dt
import decimal
import json
import random
import sys
import uuid

import fastavro
from pyiceberg.table import StaticTable

UTC = dt.timezone.utc


def event(n: int, r: random.Random) -> dict:
    """One event; the first ones hold the edges of each type."""
    edge = n % 4
    integer = [0, -(2**31), 2**31 - 1, r.randrange(-1000, 1000)][edge]
    instant = dt.datetime(2024, 1, 1, 12, 0, 0, 123000) + dt.timedelta(milliseconds=r.randrange(-(10**12), 10**12))
    micros = instant.replace(microsecond=r.randrange(1_000_000))
    text = ["", "plain", "snow ❄ and \u0000 nul", "Ꙭ" * r.randrange(1, 300)][edge]
    return {
        "id": n + 1,
        "a_boolean": bool(n & 1),
        "an_int": integer,
        "a_float": [0.0, -0.0, 3.5, float("inf")][edge],
        "a_double": [0.0, 1e-300, -1.5e300, r.random()][edge],
        "some_bytes": r.randbytes(r.randrange(0, 40)),
        "a_string": text,
        "a_fixed": r.randbytes(6),
        "an_enum": r.choice(["RED", "GREEN", "BLUE"]),
        "a_decimal": decimal.Decimal(r.randrange(-(10**20) + 1, 10**20)).scaleb(-4, decimal.Context(prec=30)),
        "a_fixed_decimal": decimal.Decimal(r.randrange(-(10**16) + 1, 10**16)).scaleb(-2, decimal.Context(prec=30)),
        "a_uuid": uuid.UUID(int=r.getrandbits(128)),
        "a_date": instant.date(),
        "a_time_millis": instant.time(),
        "a_time_micros": micros.time(),
        "a_timestamp_millis": instant.replace(tzinfo=UTC),
        "a_timestamp_micros": micros.replace(tzinfo=UTC),
        "a_local_timestamp_millis": instant,
        "a_local_timestamp_micros": micros,
        "a_nullable": None if edge == 1 else text,
        "a_nullable_last": None if edge == 2 else 2**62 - n,
        "an_array": [r.randrange(100) for _ in range(edge)],
        "an_array_of_nullables": [None, "a", None][:edge],
        "a_map": {f"k{i}": r.randrange(10**15) for i in range(edge)},
        "a_record": {"name": text, "altitude": None if edge else -1.25, "seen": [instant.date()] * edge},
        "a_nullable_record": None if edge == 3 else {"name": "Ö", "weight": decimal.Decimal(r.randrange(10**9)).scaleb(-3)},
        "an_array_of_records": [{"item": text, "tags": {"x": None, "y": "z"}} for _ in range(edge)],
    }


def plain(value):
    """A value in one form, whichever library read it."""
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        pairs = bool(value) and all(isinstance(inner, tuple) for inner in value)
        return {key: plain(inner) for key, inner in value} if pairs else [plain(inner) for inner in value]
    return value


def same(field: str, sent, found) -> bool:
    """True if the two mean the same; an empty map is read as an empty list."""
    if field == "a_map" and not sent:
        return not found
    if field == "a_uuid" and len(found) == 32:
        sent = sent.replace("-", "")
    if field == "an_array_of_records":
        return [dict(line, tags=line["tags"] or {}) for line in sent] == [dict(line, tags=line["tags"] or {}) for line in found]
    return sent == found


def write(schema: str, events: str, rows: str) -> dict:
    r = random.Random(7)
    parsed = fastavro.schema.load_schema(schema)
    with open(events, "wb") as file:
        fastavro.writer(file, parsed, [event(n, r) for n in range(int(rows))], codec="deflate")
    return {"rows": int(rows)}


def compare(events: str, metadata: str) -> dict:
    with open(events, "rb") as file:
        sent = {row["id"]: row for row in fastavro.reader(file)}
    found = {row["id"]: row for row in StaticTable.from_metadata(metadata).scan().to_arrow().to_pylist()}
    differing = {}
    for key, row in sent.items():
        for field, value in row.items():
            if not same(field, plain(value), plain(found[key][field])):
                differing.setdefault(field, f"row {key}: sent {plain(value)!r}, found {plain(found[key][field])!r}")
    return {"sent": len(sent), "found": len(found), "differing": differing}


def main() -> None:
    what, *arguments = sys.argv[1:]
    print(json.dumps({"write": write, "compare": compare}[what](*arguments)))


main()
