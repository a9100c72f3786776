//! From a file's columns to the topic's. Names are the topic's already (`parquet::named`); here types are widened, columns that the file has not are null, and
//! what lies inside records, lists and maps is matched by Iceberg field id as well.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_adapter::{DefaultPhysicalExprAdapter, PhysicalExprAdapter, PhysicalExprAdapterFactory};
use schemas::conform::{absent, conform};

/// Makes adapters from files whose columns have the topic's names.
#[derive(Debug)]
pub(super) struct ByFieldId;

impl PhysicalExprAdapterFactory for ByFieldId {
    fn create(&self, logical: SchemaRef, physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        // DataFusion would match members by name, and those of list elements by place: it is told that they are right.
        let as_in_file = |field: &FieldRef| match physical.field_with_name(field.name()) {
            Ok(found) if field.data_type().is_nested() && found.data_type().is_nested() => {
                Arc::new(field.as_ref().clone().with_data_type(found.data_type().clone()))
            }
            _ => Arc::clone(field),
        };
        let outer = Arc::new(Schema::new(logical.fields().iter().map(as_in_file).collect::<Vec<_>>()));
        let adapter = DefaultPhysicalExprAdapter::new(outer, Arc::clone(&physical));
        Ok(Arc::new(Adapter { adapter, logical, physical }))
    }
}

#[derive(Debug)]
struct Adapter {
    adapter: DefaultPhysicalExprAdapter,
    logical: SchemaRef,
    physical: SchemaRef,
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let adapted = self.adapter.rewrite(expr)?;
        let conformed = adapted.transform_up(|expr| {
            let differs = expr.as_any().downcast_ref::<Column>().and_then(|column| self.differs(column));
            Ok(match differs {
                Some(field) => Transformed::yes(Arc::new(Conformed { column: expr, field }) as _),
                None => Transformed::no(expr),
            })
        })?;
        Ok(conformed.data)
    }
}

impl Adapter {
    /// The topic's field of a nested column that has another type in the file.
    fn differs(&self, column: &Column) -> Option<FieldRef> {
        let found = self.physical.field(column.index()).data_type();
        let (_, field) = self.logical.fields().find(column.name())?;
        (found.is_nested() && field.data_type() != found).then(|| Arc::clone(field))
    }
}

/// A nested column of a file in the type that the topic has.
#[derive(Debug)]
struct Conformed {
    column: Arc<dyn PhysicalExpr>,
    field: FieldRef,
}

impl PartialEq for Conformed {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.field == other.field
    }
}

impl Eq for Conformed {}

impl Hash for Conformed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.field.hash(state);
    }
}

impl fmt::Display for Conformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by_field_id({})", self.column)
    }
}

impl PhysicalExpr for Conformed {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(self.field.is_nullable())
    }

    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(conform(&array, &self.field, &absent)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let column = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.column));
        Ok(Arc::new(Self { column, field: Arc::clone(&self.field) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, StructArray};
    use arrow::datatypes::{Field, Int64Type};
    use schemas::envelope::field;

    use super::*;

    fn read(logical: Vec<Field>, physical: Vec<Field>, columns: Vec<ArrayRef>, name: &str) -> ArrayRef {
        let (logical, physical) = (Arc::new(Schema::new(logical)), Arc::new(Schema::new(physical)));
        let column = Column::new_with_schema(name, &logical).unwrap();
        let adapter = ByFieldId.create(logical, Arc::clone(&physical)).unwrap();
        let adapted = adapter.rewrite(Arc::new(column)).unwrap();
        let rows = RecordBatch::try_new(physical, columns).unwrap();
        adapted.evaluate(&rows).unwrap().into_array(rows.num_rows()).unwrap()
    }

    #[test]
    fn a_column_is_widened_and_one_that_the_file_has_not_is_null() {
        let file = || vec![field(101, "a", DataType::Int32, true), field(102, "b", DataType::Int64, true)];
        let columns = || -> Vec<ArrayRef> {
            vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(Int64Array::from(vec![3, 4]))]
        };
        let logical = || {
            vec![
                field(103, "c", DataType::Int64, true),
                field(102, "b", DataType::Int64, true),
                field(101, "a", DataType::Int64, true),
            ]
        };
        assert_eq!(read(logical(), file(), columns(), "a").as_primitive::<Int64Type>().values(), &[1, 2]);
        assert_eq!(read(logical(), file(), columns(), "b").as_primitive::<Int64Type>().values(), &[3, 4]);
        assert_eq!(read(logical(), file(), columns(), "c").null_count(), 2);
    }

    #[test]
    fn members_are_matched_by_id_where_names_would_mislead() {
        let record = |members: Vec<Field>| DataType::Struct(members.into());
        let in_file = vec![field(102, "x", DataType::Int64, true), field(103, "y", DataType::Int64, true)];
        let now = vec![field(103, "x", DataType::Int64, true), field(104, "z", DataType::Int64, true)];
        let values: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(Int64Array::from(vec![3, 4]))];
        let column: ArrayRef = Arc::new(StructArray::new(in_file.clone().into(), values, None));
        let read = read(
            vec![field(101, "s", record(now), true)],
            vec![field(101, "s", record(in_file), true)],
            vec![column],
            "s",
        );
        assert_eq!(read.as_struct().column(0).as_primitive::<Int64Type>().values(), &[3, 4]);
        assert_eq!(read.as_struct().column(1).null_count(), 2);
    }
}
