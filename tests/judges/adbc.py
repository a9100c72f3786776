"""Uses a server as an analyst's tool does: the ADBC driver for Flight SQL, its catalog and a query with a parameter.

usage: adbc.py grpc://127.0.0.1:8815 TOPIC KEY
"""

import json
import sys

import adbc_driver_flightsql.dbapi as flightsql


def tables(connection) -> dict:
    """Column names by `catalog.schema.table`."""
    found = {}
    for catalog in connection.adbc_get_objects(depth="all").read_all().to_pylist():
        for schema in catalog["catalog_db_schemas"] or []:
            for table in schema["db_schema_tables"] or []:
                name = f"{catalog['catalog_name']}.{schema['db_schema_name']}.{table['table_name']}"
                found[name] = [column["column_name"] for column in table["table_columns"] or []]
    return found


def main() -> None:
    server, topic, key = sys.argv[1:]
    with flightsql.connect(server, autocommit=True) as connection, connection.cursor() as cursor:
        verdict = {"tables": tables(connection), "table_types": connection.adbc_get_table_types()}
        verdict["info"] = {str(name): str(value) for name, value in connection.adbc_get_info().items()}

        cursor.execute(f"select count(*) as n, max(_seq) as last from {topic}")
        verdict["count"], verdict["max_seq"] = cursor.fetchone()

        cursor.execute(f"select _seq from {topic} where _key = ? order by _seq", (key,))
        verdict["key_seqs"] = [seq for (seq,) in cursor.fetchall()]

        cursor.execute(f"select _seq from firn.default.{topic} where _key = ? and _seq > ? order by _seq", (key, 0))
        verdict["key_seqs_by_full_name"] = cursor.fetch_arrow_table()["_seq"].to_pylist()

        schema = connection.adbc_get_table_schema(topic)
        verdict["schema"] = {field.name: str(field.type) for field in schema}
        try:
            cursor.execute("select no_such_column from " + topic)
            verdict["error"] = None
        except flightsql.Error as error:
            verdict["error"] = str(error)
    print(json.dumps(verdict))


main()
