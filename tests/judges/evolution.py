"""Reads all rows of a topic's table, and counts those that fulfil conditions, with PyIceberg or with Spark, from nothing but its metadata file.

usage: evolution.py iceberg METADATA_URI COLUMNS CONDITION...
       FIRN_JARS=FOLDER evolution.py spark METADATA_URI COLUMNS CONDITION...      (COLUMNS: separated by commas)
"""

import datetime as dt
import decimal
import json
import sys


def plain(value):
    """A value in one form, whichever library read it."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, (dt.datetime, dt.date)):
        return value.isoformat()
    if hasattr(value, "asDict"):
        return plain(value.asDict())
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        pairs = bool(value) and all(type(inner) is tuple for inner in value)
        return plain(dict(value)) if pairs else [plain(inner) for inner in value]
    return value


def iceberg(metadata: str, columns: list, conditions: list) -> dict:
    from pyiceberg.table import StaticTable

    table = StaticTable.from_metadata(metadata)
    rows = table.scan(selected_fields=("_seq", *columns)).to_arrow().sort_by("_seq").to_pylist()
    counts = {condition: table.scan(row_filter=condition).to_arrow().num_rows for condition in conditions}
    return {"rows": [{name: plain(row[name]) for name in ("_seq", *columns)} for row in rows], "counts": counts}


def spark(metadata: str, columns: list, conditions: list) -> dict:
    import tempfile

    from spark import hadoop_table, session

    session = session()
    with tempfile.TemporaryDirectory(prefix="firn-spark-") as folder:
        table = session.read.format("iceberg").load(hadoop_table(metadata, folder))
        rows = table.select("_seq", *columns).orderBy("_seq").collect()
        verdict = {
            "rows": [{name: plain(row[name]) for name in ("_seq", *columns)} for row in rows],
            "counts": {condition: table.where(condition).count() for condition in conditions},
        }
    session.stop()
    return verdict


def main() -> None:
    engine, metadata, columns, *conditions = sys.argv[1:]
    judge = {"iceberg": iceberg, "spark": spark}[engine]
    print(json.dumps(judge(metadata, columns.split(","), conditions)))


main()
