//! What the manifests say of the files that are read, for the planner: rows, nulls and bounds.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, SchemaRef, UInt64Type};
use catalog::table::{DataFile, FileSet};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::error::Result;

use super::pruning::field_id;

/// Rows of each kept file with bounds of `columns` (numbers of the event schema), in the order of `live`; other columns are unknown.
pub(super) fn of_files(
    schema: &SchemaRef,
    live: &FileSet,
    kept: &[bool],
    columns: &[usize],
) -> Result<Vec<Statistics>> {
    let known: Vec<_> =
        columns.iter().filter_map(|column| Some((*column, Known::of(schema, live, *column)?))).collect();
    let files = live.files().iter().enumerate().filter(|(index, _)| kept[*index]);
    let describe = |(index, file): (usize, &std::sync::Arc<DataFile>)| {
        let mut statistics = Statistics::new_unknown(schema)
            .with_num_rows(Precision::Exact(file.rows as usize))
            .with_total_byte_size(Precision::Inexact(file.size as usize));
        for (column, known) in &known {
            statistics.column_statistics[*column] = known.at(index)?;
        }
        Ok(statistics)
    };
    files.map(describe).collect()
}

/// The manifests' entries of one column, one a file.
struct Known {
    lower: ArrayRef,
    upper: ArrayRef,
    nulls: Option<ArrayRef>,
    exact: bool,
    data_type: DataType,
}

impl Known {
    fn of(schema: &SchemaRef, live: &FileSet, column: usize) -> Option<Self> {
        let field = &schema.fields()[column];
        let id = field_id(field)?;
        let (lower, upper) = live.bounds(id)?;
        let data_type = field.data_type().clone();
        Some(Self { lower, upper, nulls: live.null_counts(id), exact: bounds_are_values(&data_type), data_type })
    }

    fn at(&self, file: usize) -> Result<ColumnStatistics> {
        let bound = |bounds: &ArrayRef| {
            Ok::<_, datafusion::error::DataFusionError>(
                match ScalarValue::try_from_array(bounds, file)?.cast_to(&self.data_type)? {
                    value if value.is_null() => Precision::Absent,
                    value if self.exact => Precision::Exact(value),
                    value => Precision::Inexact(value),
                },
            )
        };
        let nulls = self.nulls.as_ref().map(|nulls| nulls.as_primitive::<UInt64Type>());
        let nulls =
            nulls.filter(|nulls| nulls.is_valid(file)).map(|nulls| Precision::Exact(nulls.value(file) as usize));
        Ok(ColumnStatistics::new_unknown()
            .with_min_value(bound(&self.lower)?)
            .with_max_value(bound(&self.upper)?)
            .with_null_count(nulls.unwrap_or(Precision::Absent)))
    }
}

/// True if the bounds in a manifest are values of the column: text and bytes may be cut short there, and NaN is in no bound.
fn bounds_are_values(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_temporal() || data_type.is_decimal() || *data_type == DataType::Boolean
}
