//! Chains of changes drawn at random, rows written under every version: whatever is read is what a model says, which knows fields by identity alone.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Float64Array, Int64Array as Longs};
use arrow::datatypes::{Field, Float32Type, Float64Type, Int32Type};
use catalog::table::Compaction;
use proptest::prelude::*;
use schemas::evolve::Rename;

use super::*;

/// Names that fields have and had: few, so that dropped ones come back.
const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Int,
    Long,
    Float,
    Double,
    Text,
    Record(Vec<Column>),
}

/// A field of the model, the same one for as long as it has its id.
#[derive(Clone, Debug, PartialEq)]
struct Column {
    id: u64,
    name: String,
    kind: Kind,
    optional: bool,
}

/// What is done to the fields of one level, by numbers that are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Add { name: usize, kind: usize },
    Drop(usize),
    Rename { field: usize, name: usize },
    Swap(usize, usize),
    Widen(usize),
    Move(usize, usize),
    Relax(usize),
}

/// One version: what is done at the top and inside records, and how many rows are written under it, of which some are flushed.
#[derive(Clone, Debug)]
struct Step {
    top: Vec<Edit>,
    inside: Vec<Edit>,
    rows: usize,
    flushed: usize,
}

fn edit() -> impl Strategy<Value = Edit> {
    let any = || 0..12_usize;
    prop_oneof![
        3 => (any(), any()).prop_map(|(name, kind)| Edit::Add { name, kind }),
        2 => any().prop_map(Edit::Drop),
        2 => (any(), any()).prop_map(|(field, name)| Edit::Rename { field, name }),
        2 => (any(), any()).prop_map(|(a, b)| Edit::Swap(a, b)),
        2 => any().prop_map(Edit::Widen),
        1 => (any(), any()).prop_map(|(a, b)| Edit::Move(a, b)),
        1 => any().prop_map(Edit::Relax),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let edits = || prop::collection::vec(edit(), 0..4);
    (edits(), edits(), 0..5_usize, 0..3_usize).prop_map(|(top, inside, rows, flushed)| Step {
        top,
        inside,
        rows,
        flushed,
    })
}

/// Applies edits to one level. `last`: the last id that was given out.
fn apply(fields: &mut Vec<Column>, edits: &[Edit], last: &mut u64, is_inside: bool) {
    // What a step begins with is known by its names: none of them is given to another field that is new in it.
    let begun: BTreeSet<String> = fields.iter().map(|field| field.name.clone()).collect();
    let is_free =
        |fields: &[Column], name: &str| !begun.contains(name) && fields.iter().all(|field| field.name != name);
    for edit in edits {
        let count = fields.len();
        match *edit {
            Edit::Add { name, kind } => {
                let name = NAMES[name % NAMES.len()];
                if is_free(fields, name) {
                    fields.push(column(last, name, kind, is_inside));
                }
            }
            Edit::Drop(field) if count > 1 => drop(fields.remove(field % count)),
            Edit::Rename { field, name } => {
                let name = NAMES[name % NAMES.len()];
                if is_free(fields, name) {
                    fields[field % count].name = name.to_owned();
                }
            }
            Edit::Swap(a, b) if a % count != b % count => {
                let name = fields[a % count].name.clone();
                fields[a % count].name = std::mem::replace(&mut fields[b % count].name, name);
            }
            Edit::Widen(field) => {
                let kind = &mut fields[field % count].kind;
                *kind = match std::mem::replace(kind, Kind::Text) {
                    Kind::Int => Kind::Long,
                    Kind::Float => Kind::Double,
                    other => other,
                };
            }
            Edit::Move(a, b) => fields.swap(a % count, b % count),
            Edit::Relax(field) => fields[field % count].optional = true,
            Edit::Drop(_) | Edit::Swap(..) => {}
        }
    }
}

/// A new field, which rows of before have not.
fn column(last: &mut u64, name: &str, kind: usize, is_inside: bool) -> Column {
    *last += 1;
    let id = *last;
    let kind = match kind % 6 {
        0 => Kind::Int,
        1 => Kind::Long,
        2 => Kind::Float,
        3 => Kind::Double,
        5 if !is_inside => {
            let members = [("x", 0), ("y", 4)].map(|(name, kind)| column(last, name, kind, true));
            Kind::Record(members.to_vec())
        }
        _ => Kind::Text,
    };
    Column { id, name: name.to_owned(), kind, optional: true }
}

/// As Avro says it. Records have names of their own.
fn avro(fields: &[Column]) -> Value {
    let kind = |column: &Column| match &column.kind {
        Kind::Int => json!("int"),
        Kind::Long => json!("long"),
        Kind::Float => json!("float"),
        Kind::Double => json!("double"),
        Kind::Text => json!("string"),
        Kind::Record(members) => json!({"type": "record", "name": format!("r{}", column.id), "fields": avro(members)}),
    };
    let field = |column: &Column| match column.optional {
        true => json!({"name": column.name, "type": ["null", kind(column)]}),
        false => json!({"name": column.name, "type": kind(column)}),
    };
    fields.iter().map(field).collect()
}

/// Which field of before each is, where its name alone would not say so.
fn renames(before: &[Column], after: &[Column], at: (&str, &str), into: &mut Vec<(String, String)>) {
    for column in after {
        let Some(old) = before.iter().find(|old| old.id == column.id) else { continue };
        let (from, to) = (format!("{}{}", at.0, old.name), format!("{}{}", at.1, column.name));
        if let (Kind::Record(before), Kind::Record(after)) = (&old.kind, &column.kind) {
            renames(before, after, (&format!("{from}."), &format!("{to}.")), into);
        }
        if old.name != column.name {
            into.push((from, to));
        }
    }
}

/// The value that the row of this seq is written with.
fn value(column: &Column, seq: i64) -> Value {
    let n = seq * 31 + column.id as i64;
    if column.optional && n % 4 == 0 {
        return Value::Null;
    }
    match &column.kind {
        Kind::Int => json!(n),
        Kind::Long => json!(n + (1 << 40)),
        Kind::Float | Kind::Double => json!(n as f64 / 8.0),
        Kind::Text => json!(format!("t{n}")),
        Kind::Record(members) => members.iter().map(|member| (member.id.to_string(), value(member, seq))).collect(),
    }
}

/// The same value under the fields that there are now: `written` knows members by their ids.
fn now(column: &Column, written: Option<&Value>) -> Value {
    match (&column.kind, written) {
        (Kind::Record(members), Some(Value::Object(had))) => {
            members.iter().map(|member| (member.name.clone(), now(member, had.get(&member.id.to_string())))).collect()
        }
        (_, written) => written.cloned().unwrap_or(Value::Null),
    }
}

/// Rows of one column as Arrow has them.
fn array(kind: &DataType, column: &Column, values: &[Value]) -> ArrayRef {
    match (&column.kind, kind) {
        (Kind::Int, _) => Arc::new(values.iter().map(|value| value.as_i64().map(|n| n as i32)).collect::<Int32Array>()),
        (Kind::Long, _) => Arc::new(values.iter().map(Value::as_i64).collect::<Longs>()),
        (Kind::Float, _) => {
            Arc::new(values.iter().map(|value| value.as_f64().map(|n| n as f32)).collect::<Float32Array>())
        }
        (Kind::Double, _) => Arc::new(values.iter().map(Value::as_f64).collect::<Float64Array>()),
        (Kind::Text, _) => Arc::new(values.iter().map(Value::as_str).collect::<StringArray>()),
        (Kind::Record(members), DataType::Struct(fields)) => {
            let of = |(member, field): (&Column, &Arc<Field>)| {
                let values: Vec<_> = values.iter().map(|value| value[member.id.to_string()].clone()).collect();
                array(field.data_type(), member, &values)
            };
            let nulls = values.iter().map(|value| !value.is_null()).collect::<Vec<_>>().into();
            Arc::new(StructArray::new(fields.clone(), members.iter().zip(fields).map(of).collect(), Some(nulls)))
        }
        other => panic!("{other:?}"),
    }
}

/// What was read, as the model says it.
fn plain(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => json!(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::Utf8View => json!(array.as_string_view().value(row)),
        DataType::Struct(fields) => {
            let members = fields.iter().zip(array.as_struct().columns());
            members.map(|(field, column)| (field.name().clone(), plain(column, row))).collect()
        }
        other => panic!("{other}"),
    }
}

fn rows(batch: &RecordBatch) -> Vec<Vec<Value>> {
    (0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| plain(column, row)).collect()).collect()
}

/// A topic, what the model knows of its fields, and every row by field.
struct Chain {
    world: World,
    def: Arc<TopicDef>,
    fields: Vec<Column>,
    last: u64,
    rows: Vec<BTreeMap<u64, Value>>,
}

impl Chain {
    async fn new() -> Self {
        let mut last = 0;
        let mut fields: Vec<_> = [("a", 0), ("b", 0), ("c", 2), ("d", 4), ("e", 5)]
            .map(|(name, kind)| column(&mut last, name, kind, false))
            .into();
        fields.iter_mut().for_each(|field| field.optional = false);
        let world = World::new(Settings::default()).await;
        let def = world.topic_with("t", Self::schema(&fields)).await;
        Self { world, def, fields, last, rows: Vec::new() }
    }

    fn schema(fields: &[Column]) -> Value {
        let mut all = vec![json!({"name": "id", "type": "string"})];
        all.extend(avro(fields).as_array().cloned().unwrap_or_default());
        Value::Array(all)
    }

    fn change(&mut self, step: &Step) {
        let before = self.fields.clone();
        for field in &mut self.fields {
            if let Kind::Record(members) = &mut field.kind {
                apply(members, &step.inside, &mut self.last, true);
            }
        }
        apply(&mut self.fields, &step.top, &mut self.last, false);
        if self.fields == before {
            return;
        }
        let mut pairs = Vec::new();
        renames(&before, &self.fields, ("", ""), &mut pairs);
        let renames: Vec<Rename> = pairs.into_iter().map(|(from, to)| Rename { from, to }).collect();
        let schema = json!({"type": "record", "name": "Order", "fields": Self::schema(&self.fields)});
        let altered = self.def.altered(schema, &renames);
        let altered = altered.unwrap_or_else(|why| panic!("{why:?}: {before:?} → {:?}", self.fields));
        let (next, changes) = altered.expect("something is different");
        assert!(!changes.is_empty());
        self.def = Arc::new(next);
        self.world.become_version(&self.def);
    }

    fn append(&mut self, count: usize) {
        let first = self.rows.len() as i64 + 1;
        let seqs = first..first + count as i64;
        let event = self.def.event_schema();
        let keys = StringArray::from_iter_values(seqs.clone().map(|seq| format!("k{}", seq % 5)));
        let mut payload: Vec<ArrayRef> = vec![Arc::new(keys)];
        for column in &self.fields {
            let values: Vec<_> = seqs.clone().map(|seq| value(column, seq)).collect();
            payload.push(array(event.field_with_name(&column.name).unwrap().data_type(), column, &values));
        }
        let events = sealed(&self.def, Seq(first), payload);
        self.world.append_events(&self.def, events);
        let written = |seq| self.fields.iter().map(|column| (column.id, value(column, seq))).collect();
        self.rows.extend(seqs.map(written));
    }

    /// Seq and columns of every row as they should be read now.
    fn expected(&self) -> Vec<Vec<Value>> {
        let row = |(seq, written): (i64, &BTreeMap<u64, Value>)| {
            let columns = self.fields.iter().map(|column| now(column, written.get(&column.id)));
            std::iter::once(json!(seq)).chain(columns).collect()
        };
        (1..).zip(&self.rows).map(row).collect()
    }

    /// SQL, replay of the topic and of its keys are what the model says.
    async fn check(&self) {
        let names: Vec<&str> = self.fields.iter().map(|column| column.name.as_str()).collect();
        let wanted: Vec<&str> = std::iter::once("_seq").chain(names.iter().copied()).collect();
        let expected = self.expected();
        let all = sql(&self.world, &format!("SELECT {} FROM t ORDER BY _seq", wanted.join(", "))).await;
        assert_eq!(rows(&all), expected, "SQL of {:?}", self.fields);
        let all = replay(&self.world, None, None, &wanted).await;
        assert_eq!(rows(&all), expected, "replay of {:?}", self.fields);
        for key in 0..5 {
            let of_key: Vec<_> = expected.iter().filter(|row| row[0].as_i64().unwrap() % 5 == key).cloned().collect();
            assert_eq!(rows(&replay(&self.world, Some(&format!("k{key}")), None, &wanted).await), of_key);
        }
    }

    /// And what conditions on each column find.
    async fn check_conditions(&self) {
        let expected = self.expected();
        for (number, name) in self.fields.iter().map(|column| &column.name).enumerate() {
            let values = || expected.iter().map(|row| &row[number + 1]);
            let mut conditions = vec![(format!("{name} IS NULL"), values().filter(|value| value.is_null()).count())];
            for value in values().filter(|value| !value.is_null() && !value.is_object()).step_by(7) {
                let literal = value.to_string().replace('"', "'");
                conditions.push((format!("{name} = {literal}"), values().filter(|other| *other == value).count()));
            }
            for (condition, expected) in conditions {
                assert_eq!(count(&self.world, &condition).await, expected as i64, "{condition}: {:?}", self.fields);
                let found = replay(&self.world, None, Some(&condition), &["_seq"]).await;
                assert_eq!(found.num_rows(), expected, "{condition}: {:?}", self.fields);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn rows_of_any_version_are_read_as_what_their_fields_have_become(steps in prop::collection::vec(step(), 1..6)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let compaction = Compaction { level1_bytes_min: 1 << 20, bytes_per_second_max: 0, ..Compaction::default() };
            let mut chain = Chain::new().await;
            chain.append(6);
            for step in &steps {
                chain.change(step);
                if step.rows > 0 {
                    chain.append(step.rows);
                }
                chain.world.flush(&chain.def, step.flushed).await;
                chain.check().await;
            }
            chain.check_conditions().await;
            // The last change comes with a row.
            chain.append(1);
            chain.world.flush(&chain.def, usize::MAX).await;
            chain.check().await;
            chain.check_conditions().await;
            chain.world.compact(&chain.def, &compaction).await;
            let table = chain.world.tables.current(&chain.def).await.unwrap();
            assert_eq!(table.files().await.unwrap().files().len(), 1, "rows of all versions are in one file");
            chain.check().await;
            chain.check_conditions().await;
        });
    }
}
