"""Opens the demo's table with PyIceberg, which knows nothing of Firn: `python open_table.py METADATA_URI KEY`."""

import sys

from pyiceberg.expressions import EqualTo
from pyiceberg.table import StaticTable

table = StaticTable.from_metadata(sys.argv[1])
rows = table.scan(selected_fields=("_seq", "_key")).to_arrow()
key = table.scan(row_filter=EqualTo("_key", sys.argv[2]), selected_fields=("_seq",)).to_arrow()
last = max(rows["_seq"].to_pylist())
print(f"PyIceberg reads {len(rows):,} rows, last seq {last:,}, {len(key)} of them with the key {sys.argv[2]}")
if len(rows) != last:
    sys.exit("rows and last seq should agree")
