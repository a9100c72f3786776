"""Uses Firn's REST catalog with Spark: keeps tables and views of its own, reads a topic, and maintains it while others append to it.

usage: FIRN_JARS=FOLDER rest_spark.py URI TOPIC ROUNDS
"""

import json
import sys
import time

from pyspark.sql import SparkSession

from spark import session

# How often a procedure is called before a lost race is an error.
TRIES_MAX = 8


def own_tables(spark: SparkSession) -> dict:
    """A namespace, a table and a view from their making to their end."""
    run = spark.sql
    run("CREATE NAMESPACE firn.lake COMMENT 'of the judge'")
    run("CREATE TABLE firn.lake.sales (id BIGINT NOT NULL, region STRING, at TIMESTAMP) USING iceberg "
        "PARTITIONED BY (region, days(at)) TBLPROPERTIES ('owner-name' = 'judge')")
    run("INSERT INTO firn.lake.sales VALUES (1, 'eu', TIMESTAMP '2026-01-01 00:00:00'), (2, 'us', TIMESTAMP '2026-01-02 00:00:00')")
    run("ALTER TABLE firn.lake.sales ADD COLUMN amount DECIMAL(10, 2)")
    run("ALTER TABLE firn.lake.sales RENAME COLUMN region TO area")
    run("ALTER TABLE firn.lake.sales ADD PARTITION FIELD bucket(4, id)")
    run("INSERT INTO firn.lake.sales VALUES (3, 'eu', TIMESTAMP '2026-01-03 00:00:00', 1.25)")
    run("ALTER TABLE firn.lake.sales CREATE TAG first")
    run("UPDATE firn.lake.sales SET amount = 7 WHERE id = 1")
    run("DELETE FROM firn.lake.sales WHERE id = 2")
    run("MERGE INTO firn.lake.sales t USING (SELECT 9 AS id) s ON t.id = s.id WHEN NOT MATCHED THEN INSERT (id, area) VALUES (s.id, 'us')")
    run("CALL firn.system.rewrite_data_files(table => 'lake.sales')")
    run("CREATE VIEW firn.lake.eu AS SELECT id, amount FROM firn.lake.sales WHERE area = 'eu'")
    facts = {
        "rows": [[row["id"], str(row["amount"])] for row in run("SELECT id, amount FROM firn.lake.sales ORDER BY id").collect()],
        "tagged": [row["id"] for row in run("SELECT id FROM firn.lake.sales VERSION AS OF 'first' ORDER BY id").collect()],
        "view": [row["id"] for row in run("SELECT id FROM firn.lake.eu ORDER BY id").collect()],
    }
    run("CREATE OR REPLACE TABLE firn.lake.sales USING iceberg AS SELECT id AS only FROM firn.lake.sales WHERE id > 1")
    facts["replaced"] = [row["only"] for row in run("SELECT only FROM firn.lake.sales ORDER BY only").collect()]
    run("ALTER TABLE firn.lake.sales RENAME TO lake.sold")
    facts["tables"] = [row["tableName"] for row in run("SHOW TABLES IN firn.lake").collect()]
    run("DROP VIEW firn.lake.eu")
    run("DROP TABLE firn.lake.sold PURGE")
    run("DROP NAMESPACE firn.lake")
    facts["namespaces"] = sorted(row["namespace"] for row in run("SHOW NAMESPACES IN firn").collect())
    return facts


def refusal(spark: SparkSession, statement: str) -> str:
    try:
        spark.sql(statement)
    except Exception as error:  # noqa: BLE001  whatever the JVM raises
        return str(error)
    raise AssertionError(f"was not refused: {statement}")


def count(spark: SparkSession, table: str) -> list:
    row = spark.sql(f"SELECT count(*) AS n, max(_seq) AS last, count(DISTINCT _seq) AS seqs FROM {table}").first()
    return [row["n"], row["last"], row["seqs"]]


def insist(spark: SparkSession, call: str):
    """What a procedure answers. One that loses against a flush on its way is called again, as whoever maintains a table would: a rewrite of manifests
    cannot be carried over to a table whose manifests were merged meanwhile."""
    for _ in range(TRIES_MAX - 1):
        try:
            return spark.sql(call).first()
        except Exception as error:  # noqa: BLE001 - Spark has many kinds for a lost race
            print(f"lost, and tried again: {str(error)[:200]}", file=sys.stderr)
    return spark.sql(call).first()


def maintained(spark: SparkSession, name: str, rounds: int) -> dict:
    """Rewrites and expires a topic's table, whatever is appended to it meanwhile."""
    table = f"firn.default.{name}"
    counts, done, files = [], [], []
    for _ in range(rounds):
        for call in [
            f"rewrite_data_files(table => 'default.{name}', options => map('rewrite-all', 'true'))",
            f"rewrite_manifests(table => 'default.{name}')",
            f"expire_snapshots(table => 'default.{name}', older_than => TIMESTAMP '2100-01-01 00:00:00', retain_last => 1)",
        ]:
            row = insist(spark, f"CALL firn.system.{call}")
            done.append([call.split("(")[0], row.asDict() if row else {}])
            counts.append(count(spark, table))
        files.append(spark.sql(f"SELECT count(*) AS n FROM {table}.files").first()["n"])
        time.sleep(0.2)
    return {"counts": counts, "done": done, "files": files}


def main() -> None:
    uri, name, rounds = sys.argv[1:]
    spark = session(type="rest", uri=uri, **{"cache-enabled": "false"})
    verdict = {"own": own_tables(spark)}
    verdict["before"] = count(spark, f"firn.default.{name}")
    verdict["maintained"] = maintained(spark, name, int(rounds))
    table = f"firn.default.{name}"
    verdict["refused"] = {
        "insert": refusal(spark, f"INSERT INTO {table} SELECT * FROM {table} LIMIT 1"),
        "delete": refusal(spark, f"DELETE FROM {table} WHERE _seq = 1"),
        "alter": refusal(spark, f"ALTER TABLE {table} ADD COLUMN mine STRING"),
        "drop": refusal(spark, f"DROP TABLE {table}"),
        "rename": refusal(spark, f"ALTER TABLE {table} RENAME TO default.mine"),
    }
    spark.stop()
    print(json.dumps(verdict))


main()
