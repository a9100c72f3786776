"""Reads a topic's table with Spark and its Iceberg runtime, and says what is in it.

usage: FIRN_JARS=FOLDER spark.py METADATA_FILE KEY       (one JVM for any number of such pairs)
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile
import urllib.parse

os.environ["PYSPARK_PYTHON"] = sys.executable

from pyspark.sql import SparkSession, functions as f  # noqa: E402
from pyspark.sql.types import IntegerType, LongType, ByteType, ShortType  # noqa: E402


def session(**catalog: str) -> SparkSession:
    """One JVM. `catalog`: settings of a catalog called firn, if there is to be one."""
    jars = pathlib.Path(os.environ["FIRN_JARS"]).glob("iceberg-spark-runtime*.jar")
    settings = {
        "spark.jars": ",".join(map(str, jars)),
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
    }
    if catalog:
        settings["spark.sql.catalog.firn"] = "org.apache.iceberg.spark.SparkCatalog"
    settings |= {f"spark.sql.catalog.firn.{name}": value for name, value in catalog.items()}
    builder = SparkSession.builder.master("local[2]").appName("judge")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def hadoop_table(metadata: str, folder: str) -> str:
    """A folder that Iceberg's Hadoop tables read: the metadata file under the name that they look for."""
    source = pathlib.Path(urllib.parse.unquote(urllib.parse.urlparse(metadata).path))
    home = pathlib.Path(tempfile.mkdtemp(dir=folder))
    (home / "metadata").mkdir()
    shutil.copy(source, home / "metadata" / "v1.metadata.json")
    (home / "metadata" / "version-hint.text").write_text("1")
    return str(home)


def facts(spark: SparkSession, location: str, key: str) -> dict:
    """Counts and sums that another engine can be held against."""
    rows = spark.read.format("iceberg").load(location)
    integers = [c.name for c in rows.schema if isinstance(c.dataType, (ByteType, ShortType, IntegerType, LongType))]
    totals = rows.agg(
        f.count("*").alias("count"),
        f.max("_seq").alias("max_seq"),
        f.countDistinct("_key").alias("distinct_keys"),
        *[f.sum(name).alias(f"sum {name}") for name in integers],
    ).first()
    prefixes = rows.groupBy("_prefix").count().collect()
    of_key = rows.where(f.col("_key") == key).orderBy("_seq").select("_seq").collect()
    return {
        "count": totals["count"],
        "max_seq": totals["max_seq"],
        "distinct_keys": totals["distinct_keys"],
        "sums": {name: totals[f"sum {name}"] for name in integers},
        "prefixes": {row["_prefix"]: row["count"] for row in prefixes},
        "key_seqs": [row["_seq"] for row in of_key],
    }


def main() -> None:
    pairs = list(zip(sys.argv[1::2], sys.argv[2::2]))
    spark = session()
    with tempfile.TemporaryDirectory(prefix="firn-spark-") as folder:
        verdicts = [facts(spark, hadoop_table(metadata, folder), key) for metadata, key in pairs]
    spark.stop()
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main()
