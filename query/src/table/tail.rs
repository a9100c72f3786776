//! The part of a topic that is in no file yet: batches in memory, handed out as they lie.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::Session;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use schemas::envelope::{self, column};

use super::projected;

/// A tail smaller than this is read by one task, rows.
const ROWS_PER_TASK_MIN: usize = 64 << 10;

/// Scans the batches, in seq order within each partition, as `schema` has them.
pub(super) fn plan(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    session: &dyn Session,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let partitions = spread(batches, session.config().target_partitions());
    let source = MemorySourceConfig::try_new(&partitions, batches[0].schema(), projection.cloned())?;
    let by_seq = PhysicalSortExpr::new_default(Arc::new(Column::new(envelope::SEQ, column::SEQ)));
    let source =
        source.with_limit(limit).try_with_sort_information(LexOrdering::new([by_seq]).into_iter().collect())?;
    conformed(DataSourceExec::from_data_source(source), &projected(schema, projection)?)
}

/// The scan with its columns cast where `schema` has other types.
fn conformed(scan: Arc<DataSourceExec>, schema: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
    let held = scan.schema();
    let pairs = || held.fields().iter().zip(schema.fields());
    if pairs().all(|(held, wanted)| held.data_type() == wanted.data_type()) {
        return Ok(scan);
    }
    let columns = pairs().enumerate().map(|(index, (held, wanted))| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(held.name(), index));
        let same = held.data_type() == wanted.data_type();
        let expr = if same { column } else { Arc::new(CastExpr::new(column, wanted.data_type().clone(), None)) };
        ProjectionExpr::new(expr, wanted.name())
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), scan)?))
}

/// Cuts the batches into up to `tasks` runs of about as many rows each. No column is copied.
fn spread(batches: &[RecordBatch], tasks: usize) -> Vec<Vec<RecordBatch>> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let share = rows.div_ceil(tasks.max(1)).max(ROWS_PER_TASK_MIN);
    let mut runs: Vec<Vec<RecordBatch>> = vec![Vec::new()];
    let mut room = share;
    for batch in batches {
        let mut taken = 0;
        while taken < batch.num_rows() {
            if room == 0 {
                runs.push(Vec::new());
                room = share;
            }
            let next = room.min(batch.num_rows() - taken);
            runs.last_mut().expect("begins with one").push(batch.slice(taken, next));
            taken += next;
            room -= next;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn spreading_keeps_every_row_once_and_in_order(sizes in prop::collection::vec(1usize..150_000, 0..6), tasks in 1usize..9) {
            let mut next = 0;
            let batches: Vec<_> = sizes.iter().map(|rows| {
                let seqs: Int64Array = (next..next + *rows as i64).collect();
                next += *rows as i64;
                RecordBatch::try_from_iter([("_seq", Arc::new(seqs) as _)]).unwrap()
            }).collect();
            let runs = spread(&batches, tasks);
            prop_assert!(runs.len() <= tasks);
            let seqs: Vec<i64> = runs.iter().flatten().flat_map(|run| run.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
            prop_assert_eq!(seqs, (0..next).collect::<Vec<_>>());
        }
    }
}
