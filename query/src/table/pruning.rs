//! Which data files may hold rows that a statement wants, told from the manifests alone.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{FieldRef, SchemaRef};
use catalog::table::{DataFile, FileSet, Partition};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicate;
use schemas::envelope;

use crate::parquet::lookup::bucket_of;

/// One answer a file of `live`: false only if it certainly holds no row for which all `filters` are true.
pub(super) fn kept(session: &dyn Session, schema: &SchemaRef, live: &FileSet, filters: &[Expr]) -> Result<Vec<bool>> {
    let all = vec![true; live.files().len()];
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(all) };
    if all.is_empty() {
        return Ok(all);
    }
    let columns = DFSchema::try_from(schema.as_ref().clone())?;
    let filter = session.create_physical_expr(filter, &columns)?;
    let predicate = PruningPredicate::try_new(filter, SchemaRef::clone(schema))?;
    if predicate.always_true() {
        return Ok(all);
    }
    // What cannot be told prunes nothing: DataFusion compares the bounds of a `like` as plain text, whatever text the column is.
    Ok(predicate.prune(&Manifests { schema, live }).unwrap_or_else(|error| {
        tracing::debug!(%error, "files are not pruned");
        all
    }))
}

/// The Iceberg field id of a top-level column of the event schema.
pub(super) fn field_id(field: &FieldRef) -> Option<i32> {
    field.metadata().get(envelope::FIELD_ID_KEY)?.parse().ok()
}

/// What the manifests say, in DataFusion's terms; a container is a file.
struct Manifests<'a> {
    schema: &'a SchemaRef,
    live: &'a FileSet,
}

impl Manifests<'_> {
    fn id_of(&self, column: &Column) -> Option<i32> {
        field_id(&self.schema.fields()[self.schema.index_of(&column.name).ok()?])
    }
}

impl PruningStatistics for Manifests<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.live.bounds(self.id_of(column)?).map(|(lower, _)| lower)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.live.bounds(self.id_of(column)?).map(|(_, upper)| upper)
    }

    fn num_containers(&self) -> usize {
        self.live.files().len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.live.null_counts(self.id_of(column)?)
    }

    fn row_counts(&self, _: &Column) -> Option<ArrayRef> {
        let rows: UInt64Array = self.live.files().iter().map(|file| Some(file.rows)).collect();
        Some(std::sync::Arc::new(rows))
    }

    /// A level-1 file holds one prefix and one bucket of keys.
    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let texts: Vec<&str> = values.iter().filter_map(|value| value.try_as_str().flatten()).collect();
        if texts.len() != values.len() {
            return None;
        }
        let verdict: fn(&DataFile, &[&str]) -> Option<bool> = match column.name.as_str() {
            envelope::KEY => in_bucket,
            envelope::PREFIX => of_prefix,
            _ => return None,
        };
        let verdicts: BooleanArray = self.live.files().iter().map(|file| verdict(file, &texts)).collect();
        (verdicts.null_count() < verdicts.len()).then_some(verdicts)
    }
}

/// `Some(false)` if none of the keys can be in the file.
fn in_bucket(file: &DataFile, keys: &[&str]) -> Option<bool> {
    match &file.partition {
        Partition::Level0 => None,
        Partition::Level1 { bucket, buckets, .. } => {
            keys.iter().all(|key| bucket_of(key, *buckets) != *bucket).then_some(false)
        }
    }
}

/// Whether the file's prefix is among these.
fn of_prefix(file: &DataFile, prefixes: &[&str]) -> Option<bool> {
    match &file.partition {
        Partition::Level0 => None,
        Partition::Level1 { prefix, .. } => Some(prefixes.contains(&prefix.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;
    use schemas::Seq;

    use super::*;

    fn file(partition: Partition) -> DataFile {
        let any = (String::new(), "~".to_owned());
        DataFile {
            path: Path::from("f"),
            size: 1,
            rows: 1,
            seqs: (Seq(1), Seq(1)),
            keys: any.clone(),
            prefixes: any,
            sorted: true,
            partition,
        }
    }

    #[test]
    fn a_level_1_file_is_told_by_its_bucket_and_prefix() {
        let buckets = 16;
        let bucket = bucket_of("o-17", buckets);
        let level_1 = file(Partition::Level1 { prefix: "orders/eu".into(), bucket, buckets });
        let stranger = (0..).map(|n| format!("k{n}")).find(|key| bucket_of(key, buckets) != bucket).unwrap();
        assert_eq!(in_bucket(&level_1, &["o-17"]), None);
        assert_eq!(in_bucket(&level_1, &[&stranger, "o-17"]), None);
        assert_eq!(in_bucket(&level_1, &[&stranger]), Some(false));
        assert_eq!(of_prefix(&level_1, &["orders/eu", "orders/us"]), Some(true));
        assert_eq!(of_prefix(&level_1, &["orders/us"]), Some(false));
        let level_0 = file(Partition::Level0);
        assert_eq!((in_bucket(&level_0, &["a"]), of_prefix(&level_0, &["b"])), (None, None));
    }
}
