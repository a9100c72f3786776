"""Reads a topic's table with PyIceberg from nothing but its metadata file, and says what is in it.

usage: iceberg.py METADATA_URI KEY [PROPERTY=VALUE]...      (properties of PyIceberg's file access, for S3)
"""

import json
import sys

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import EqualTo
from pyiceberg.table import StaticTable


def facts(rows: pa.Table) -> dict:
    """Counts and sums that another engine can be held against."""
    sums = {
        field.name: pc.sum(rows[field.name]).as_py()
        for field in rows.schema
        if pa.types.is_integer(field.type)
    }
    prefixes = rows.group_by("_prefix").aggregate([("_seq", "count")]).to_pylist()
    return {
        "count": rows.num_rows,
        "max_seq": pc.max(rows["_seq"]).as_py(),
        "distinct_keys": pc.count_distinct(rows["_key"]).as_py(),
        "sums": sums,
        "prefixes": {row["_prefix"]: row["_seq_count"] for row in prefixes},
    }


def main() -> None:
    metadata, key, *properties = sys.argv[1:]
    table = StaticTable.from_metadata(metadata, dict(p.split("=", 1) for p in properties))
    verdict = facts(table.scan().to_arrow())

    of_key = table.scan(row_filter=EqualTo("_key", key))
    rows = of_key.to_arrow().sort_by("_seq")
    verdict["key_seqs"] = rows["_seq"].to_pylist()
    verdict["files"] = len(list(table.scan().plan_files()))
    verdict["files_of_key"] = len(list(of_key.plan_files()))
    verdict["properties"] = {k: v for k, v in table.properties.items() if k.startswith("firn.")}
    verdict["format_version"] = table.metadata.format_version
    print(json.dumps(verdict))


main()
