//! Topics, batches and checks that the tests of this crate share.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringArray};
use arrow::datatypes::{Field, Int32Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use catalog::table::Tables;
use catalog::view::{Asked, LastSeqs, LastSeqsFound, Matching};
use schemas::check::{Check, CheckCompiler};
use schemas::{LaneId, SchemaError, Seq, TenantId, TopicDef, TopicId, TopicName, TopicSpec};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::rows::{Shape, ValidRows};

/// A topic of this name with the given Avro fields, key fields and path template. `number` makes its identity.
pub(crate) fn topic(name: &str, fields: Value, key: &[&str], path: Option<&str>, number: u128) -> Arc<TopicDef> {
    let spec: TopicSpec = serde_json::from_value(json!({
        "name": name,
        "schema": {"type": "record", "name": "Event", "fields": fields},
        "key": key,
        "path": path,
    }))
    .unwrap();
    resolve(spec, number)
}

/// Makes a topic of a spec.
pub(crate) fn resolve(spec: TopicSpec, number: u128) -> Arc<TopicDef> {
    let (id, tenant) = (TopicId(Uuid::from_u128(number)), TenantId(Uuid::from_u128(1)));
    Arc::new(spec.resolve(id, tenant, LaneId(0)).unwrap())
}

/// The topic `orders`: key `id`, path `orders/{region}`, and an `amount`.
pub(crate) fn orders(number: u128) -> Arc<TopicDef> {
    let fields = json!([
        {"name": "id", "type": "string"},
        {"name": "region", "type": "string"},
        {"name": "amount", "type": "int"},
    ]);
    topic("orders", fields, &["id"], Some("orders/{region}"), number)
}

/// A batch of these columns, all nullable.
pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<_> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Payload of `orders` for these amounts; key and region follow from them.
pub(crate) fn order_rows(amounts: impl IntoIterator<Item = i32>) -> RecordBatch {
    let amounts: Vec<_> = amounts.into_iter().collect();
    let text =
        |text: &dyn Fn(&i32) -> String| Arc::new(StringArray::from_iter_values(amounts.iter().map(text))) as ArrayRef;
    batch(vec![
        ("id", text(&|amount| format!("o-{amount}"))),
        ("region", text(&|amount| format!("r{}", amount % 3))),
        ("amount", Arc::new(Int32Array::from(amounts.clone()))),
    ])
}

/// Valid rows of `orders`, as validation would make them.
pub(crate) fn valid_orders(def: &Arc<TopicDef>, amounts: impl IntoIterator<Item = i32>) -> ValidRows {
    let shape = Arc::new(Shape::new(Arc::clone(def)).unwrap());
    let rows = order_rows(amounts);
    let body = RecordBatch::try_new(Arc::clone(shape.body_schema(false, false)), rows.columns().to_vec()).unwrap();
    ValidRows::derive(&shape, body).unwrap()
}

/// A name.
pub(crate) fn name(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

/// Knows two expressions over an int column: `COLUMN > 0`, and `1 / COLUMN > 0`, which fails for a batch with a zero in it.
#[derive(Debug)]
pub(crate) struct TestChecks;

#[derive(Debug)]
struct TestCheck {
    name: String,
    column: usize,
    divides: bool,
}

impl CheckCompiler for TestChecks {
    fn compile(&self, expression: &str, schema: &SchemaRef) -> Result<Arc<dyn Check>, SchemaError> {
        let fault = || SchemaError::Option { option: "check", reason: format!("cannot parse {expression:?}") };
        let left = expression.strip_suffix(" > 0").ok_or_else(fault)?;
        let column = left.strip_prefix("1 / ");
        let divides = column.is_some();
        let name = column.unwrap_or(left).to_owned();
        let column = schema.index_of(&name).map_err(|_| fault())?;
        Ok(Arc::new(TestCheck { name, column, divides }))
    }
}

impl Check for TestCheck {
    fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, SchemaError> {
        let values = batch.column(self.column).as_primitive::<Int32Type>();
        if self.divides && values.iter().flatten().any(|value| value == 0) {
            return Err(SchemaError::Batch("division by zero".into()));
        }
        Ok(values.iter().map(|value| value.map(|value| value > 0)).collect())
    }

    fn columns(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

/// Knows of every table that the event with seq n has the key `o-n`, and nothing of patterns.
#[derive(Debug)]
pub(crate) struct TestLastSeqs(pub(crate) Tables);

#[async_trait]
impl LastSeqs for TestLastSeqs {
    async fn last_seqs(&self, topic: &TopicDef, asked: &[Asked]) -> catalog::Result<LastSeqsFound> {
        let watermark = self.0.current(topic).await?.watermark();
        let last = |asked: &Asked| match &asked.of {
            Matching::Key(key) => {
                let seq = Seq(key.strip_prefix("o-")?.parse().ok()?);
                Some(seq).filter(|seq| *seq > asked.above && *seq < watermark.0)
            }
            Matching::Pattern(_) | Matching::Topic => None,
        };
        Ok(LastSeqsFound { last: asked.iter().map(last).collect(), watermark })
    }
}
