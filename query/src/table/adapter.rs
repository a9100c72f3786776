//! Matching a file's columns to the topic's by Iceberg field id: a column keeps its values when its name changes, and a new column that takes
//! an old name does not inherit them.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_adapter::{DefaultPhysicalExprAdapter, PhysicalExprAdapter, PhysicalExprAdapterFactory};

use super::pruning::field_id;

/// Makes adapters by field id. A file without ids is matched by name.
#[derive(Debug)]
pub(super) struct ByFieldId;

impl PhysicalExprAdapterFactory for ByFieldId {
    fn create(&self, logical: SchemaRef, physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let Some(renamed) = renamed(&logical, &physical) else {
            return Ok(Arc::new(DefaultPhysicalExprAdapter::new(logical, physical)));
        };
        let adapter = DefaultPhysicalExprAdapter::new(logical, Arc::new(renamed));
        Ok(Arc::new(Adapter { adapter, physical }))
    }
}

/// The file's schema under the topic's names; `None` if they are the same already, or the file has no ids.
fn renamed(logical: &Schema, physical: &Schema) -> Option<Schema> {
    if physical.fields().iter().all(|field| field_id(field).is_none()) {
        return None;
    }
    let mut changed = false;
    let fields: Vec<_> = physical
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let of_topic =
                field_id(field).and_then(|id| logical.fields().iter().find(|known| field_id(known) == Some(id)));
            // No column of a topic has an empty byte in its name: this one is not found by any.
            let name = of_topic.map_or_else(|| format!("\0{index}"), |known| known.name().clone());
            changed |= name != *field.name();
            field.as_ref().clone().with_name(name)
        })
        .collect();
    changed.then(|| Schema::new(fields))
}

/// Adapts to the renamed schema, then gives columns their names in the file back, which pruning by its statistics goes by.
#[derive(Debug)]
struct Adapter {
    adapter: DefaultPhysicalExprAdapter,
    physical: SchemaRef,
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let adapted = self.adapter.rewrite(expr)?;
        let in_file = adapted.transform_up(|expr| match expr.as_any().downcast_ref::<Column>() {
            Some(column) => {
                let name = self.physical.field(column.index()).name();
                Ok(Transformed::yes(Arc::new(Column::new(name, column.index())) as _))
            }
            None => Ok(Transformed::no(expr)),
        })?;
        Ok(in_file.data)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field};
    use schemas::envelope::field;

    use super::*;

    fn read(logical: Vec<Field>, physical: Vec<Field>, name: &str) -> Vec<Option<i64>> {
        let (logical, physical) = (Arc::new(Schema::new(logical)), Arc::new(Schema::new(physical)));
        let column = Column::new_with_schema(name, &logical).unwrap();
        let adapter = ByFieldId.create(logical, Arc::clone(&physical)).unwrap();
        let adapted = adapter.rewrite(Arc::new(column)).unwrap();
        let rows = RecordBatch::try_new(
            physical,
            vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(Int64Array::from(vec![10, 20]))],
        );
        let read = adapted.evaluate(&rows.unwrap()).unwrap().into_array(2).unwrap();
        let read = arrow::compute::cast(&read, &DataType::Int64).unwrap();
        read.as_any().downcast_ref::<Int64Array>().unwrap().iter().collect()
    }

    #[test]
    fn a_column_is_found_by_its_id_under_its_new_name_and_place() {
        let file = || vec![field(101, "a", DataType::Int32, true), field(102, "b", DataType::Int64, true)];
        let renamed = || vec![field(102, "a", DataType::Int64, true), field(101, "c", DataType::Int64, true)];
        assert_eq!(read(renamed(), file(), "a"), [Some(10), Some(20)]);
        assert_eq!(read(renamed(), file(), "c"), [Some(1), Some(2)]);
        assert_eq!(read(file(), file(), "a"), [Some(1), Some(2)]);
    }

    #[test]
    fn a_new_column_with_an_old_name_is_null_in_old_files() {
        let file = vec![field(101, "a", DataType::Int32, true), field(102, "b", DataType::Int64, true)];
        let logical = vec![field(103, "a", DataType::Int64, true), field(102, "b", DataType::Int64, true)];
        assert_eq!(read(logical, file, "a"), [None, None]);
    }

    #[test]
    fn a_file_without_ids_is_matched_by_name() {
        let file = vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int64, true)];
        let logical = vec![field(102, "b", DataType::Int64, true), field(101, "a", DataType::Int32, true)];
        assert_eq!(read(logical, file, "b"), [Some(10), Some(20)]);
    }
}
