"""Uses Firn's REST catalog with DuckDB: reads a topic, fails to drop it, and keeps a table of its own.

usage: rest_duckdb.py URI TOPIC KEY
"""

import importlib
import json
import pathlib
import sys

import duckdb


def connect(uri: str) -> duckdb.DuckDBPyConnection:
    """Extensions come as packages: nothing is downloaded."""
    connection = duckdb.connect(config={"allow_unsigned_extensions": "false"})
    for name in ["httpfs", "avro", "iceberg"]:
        package = pathlib.Path(importlib.import_module(f"duckdb_extension_{name}").__file__).parent
        [extension] = package.glob(f"extensions/*/{name}.duckdb_extension")
        connection.load_extension(str(extension))
    connection.execute(f"ATTACH 'firn' AS firn (TYPE iceberg, ENDPOINT '{uri}', AUTHORIZATION_TYPE 'none')")
    return connection


def refusal(connection: duckdb.DuckDBPyConnection, statement: str) -> str:
    try:
        connection.execute(statement)
    except duckdb.Error as error:
        return str(error)
    raise AssertionError(f"was not refused: {statement}")


def own_table(connection: duckdb.DuckDBPyConnection) -> list:
    run = connection.execute
    run("CREATE SCHEMA firn.duck")
    run("CREATE TABLE firn.duck.t (id BIGINT, name VARCHAR)")
    run("INSERT INTO firn.duck.t VALUES (1, 'a'), (2, 'b')")
    run("INSERT INTO firn.duck.t SELECT id + 2, name FROM firn.duck.t")
    rows = run("SELECT id, name FROM firn.duck.t ORDER BY id").fetchall()
    run("DROP TABLE firn.duck.t")
    run("DROP SCHEMA firn.duck")
    return rows


def main() -> None:
    uri, topic, key = sys.argv[1:]
    connection = connect(uri)
    table = f'firn."default".{topic}'
    count, last = connection.execute(f"SELECT count(*), max(_seq) FROM {table}").fetchone()
    seqs = connection.execute(f"SELECT _seq FROM {table} WHERE _key = ? ORDER BY _seq", [key]).fetchall()
    verdict = {
        "count": count,
        "max_seq": last,
        "key_seqs": [row[0] for row in seqs],
        "refused": {"drop": refusal(connection, f"DROP TABLE {table}")},
        "own": own_table(connection),
    }
    print(json.dumps(verdict))


main()
