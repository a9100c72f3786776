"""Uses Firn's REST catalog with PyIceberg: keeps tables of its own, reads a topic, and tries to change it.

usage: rest_iceberg.py URI TOPIC all|read [PROPERTY=VALUE]...      (read: writes no file)
"""

import json
import sys

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import (
    ForbiddenError,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import StringType


def raises(expected: type, work) -> str:
    """What is said when `work` is refused as it should be."""
    try:
        work()
    except expected as error:
        return str(error)
    raise AssertionError(f"expected {expected.__name__}, and nothing was raised")


def own_tables(catalog: RestCatalog) -> dict:
    """A namespace and a table from their making to their end."""
    catalog.create_namespace("lake", {"owner": "judge"})
    raises(NamespaceAlreadyExistsError, lambda: catalog.create_namespace("lake"))
    catalog.create_namespace(("lake", "deep"))
    catalog.update_namespace_properties("lake", updates={"note": "x"}, removals={"owner"})
    rows = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "region": ["eu", "us", "eu"]})
    table = catalog.create_table("lake.sales", rows.schema, properties={"owner": "judge"})
    raises(TableAlreadyExistsError, lambda: catalog.create_table("lake.sales", rows.schema))
    table.append(rows)
    with table.update_schema() as update:
        update.add_column("note", StringType())
        update.rename_column("region", "area")
    table.append(pa.table({"id": pa.array([4], pa.int64()), "area": ["us"], "note": ["new"]}))
    table.overwrite(pa.table({"id": pa.array([5], pa.int64()), "area": ["eu"], "note": ["all"]}), "area = 'eu'")
    with table.update_spec() as update:
        update.add_identity("area")
    table.append(pa.table({"id": pa.array([6], pa.int64()), "area": ["eu"], "note": ["by area"]}))
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "now").commit()
    table.delete("id = 2")
    with table.transaction() as transaction:
        transaction.set_properties(reviewed="yes")

    fresh = catalog.load_table("lake.sales")
    facts = {
        "ids": sorted(fresh.scan().to_arrow()["id"].to_pylist()),
        "tagged": sorted(fresh.scan(snapshot_id=fresh.refs()["now"].snapshot_id).to_arrow()["id"].to_pylist()),
        "columns": fresh.schema().column_names,
        "properties": [fresh.properties["owner"], fresh.properties["reviewed"]],
        "namespace": catalog.load_namespace_properties("lake"),
        "below": catalog.list_namespaces("lake"),
        "location": fresh.location(),
    }
    with catalog.create_table_transaction(
        "lake.staged",
        fresh.schema(),
        partition_spec=PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "area")),
    ) as transaction:
        transaction.set_properties(made="in one commit")
    facts["staged"] = catalog.load_table("lake.staged").properties["made"]
    facts["partitioned_by"] = [field.name for field in catalog.load_table("lake.staged").spec().fields]

    last = fresh.metadata_location
    catalog.rename_table("lake.sales", "lake.deep.sales")
    raises(NoSuchTableError, lambda: catalog.load_table("lake.sales"))
    catalog.drop_table("lake.deep.sales")
    catalog.register_table("lake.again", last)
    facts["registered"] = sorted(catalog.load_table("lake.again").scan().to_arrow()["id"].to_pylist())
    facts["tables"] = sorted(".".join(name) for name in catalog.list_tables("lake"))
    raises(NamespaceNotEmptyError, lambda: catalog.drop_namespace("lake"))
    for name in ["lake.again", "lake.staged"]:
        catalog.purge_table(name)
    for name in [("lake", "deep"), ("lake",)]:
        catalog.drop_namespace(name)
    facts["namespaces"] = catalog.list_namespaces()
    return facts


def topic(catalog: RestCatalog, name: str) -> dict:
    """What a topic's table holds, and how it answers to those who would change it."""
    table = catalog.load_table(("default", name))
    rows = table.scan(selected_fields=("_seq",)).to_arrow()

    def widen():
        with table.update_schema() as update:
            update.add_column("mine", StringType())

    def again(operation: Operation):
        """The files of the current snapshot once more, as what another engine would say it has done."""
        current = table.current_snapshot()
        snapshot = Snapshot(
            snapshot_id=current.snapshot_id + 1,
            parent_snapshot_id=current.snapshot_id,
            sequence_number=current.sequence_number + 1,
            timestamp_ms=current.timestamp_ms + 1,
            manifest_list=current.manifest_list,
            summary=Summary(operation),
            schema_id=current.schema_id,
        )
        main = SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=snapshot.snapshot_id)
        catalog.commit_table(table, (), (AddSnapshotUpdate(snapshot=snapshot), main))

    refused = {
        "append": raises(ForbiddenError, lambda: again(Operation.APPEND)),
        "overwrite": raises(ForbiddenError, lambda: again(Operation.OVERWRITE)),
        "delete": raises(ForbiddenError, lambda: table.delete()),
        "schema": raises(ForbiddenError, widen),
        "property": raises(ForbiddenError, lambda: table.transaction().set_properties({"firn.watermark": "1"}).commit_transaction()),
        "rename": raises(ForbiddenError, lambda: catalog.rename_table(("default", name), ("default", "mine"))),
        "drop": raises(ForbiddenError, lambda: catalog.drop_table(("default", name))),
    }
    with table.transaction() as transaction:
        transaction.set_properties({"owner": "judge"})
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "seen").commit()
    fresh = catalog.load_table(("default", name))
    return {
        "count": rows.num_rows,
        "max_seq": pc.max(rows["_seq"]).as_py(),
        "refused": refused,
        "owner": fresh.properties["owner"],
        "tags": sorted(name for name in fresh.refs() if name != "main"),
        "tables": sorted(".".join(name) for name in catalog.list_tables("default")),
        "exists": [catalog.table_exists(("default", name)), catalog.table_exists(("default", "nothing"))],
    }


def main() -> None:
    uri, name, what, *properties = sys.argv[1:]
    catalog = RestCatalog("firn", uri=uri, **dict(p.split("=", 1) for p in properties))
    if what == "all":
        print(json.dumps({"own": own_tables(catalog), "topic": topic(catalog, name)}))
    else:
        table = catalog.load_table(("default", name))
        seqs = table.scan(selected_fields=("_seq",)).to_arrow()["_seq"]
        print(json.dumps({"count": len(seqs), "max_seq": pc.max(seqs).as_py(), "location": table.location()}))


main()
