use arrow::array::{Float64Array, Int64Array, StringArray};
use arrow::datatypes::{Field, Schema};

use super::*;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("price", DataType::Float64, true),
    ]))
}

fn rows() -> RecordBatch {
    let id = Int64Array::from(vec![1, 2, 3]);
    let name = StringArray::from(vec![Some("a"), None, Some("ccc")]);
    let price = Float64Array::from(vec![Some(0.5), Some(-1.0), None]);
    RecordBatch::try_new(schema(), vec![Arc::new(id), Arc::new(name), Arc::new(price)]).unwrap()
}

fn verdicts(expression: &str) -> Vec<Option<bool>> {
    let check = SqlChecks.compile(expression, &schema()).unwrap();
    check.evaluate(&rows()).unwrap().iter().collect()
}

#[test]
fn a_check_says_true_false_or_null_of_every_row() {
    assert_eq!(verdicts("price >= 0"), [Some(true), Some(false), None]);
    assert_eq!(verdicts("name IS NULL OR length(name) < 3"), [Some(true), Some(true), Some(false)]);
    assert_eq!(verdicts("id BETWEEN 1 AND 2 AND name LIKE 'a%'"), [Some(true), None, Some(false)]);
    assert_eq!(verdicts("CASE WHEN id = 1 THEN price > 0 ELSE true END"), [Some(true), Some(true), Some(true)]);
}

#[test]
fn types_are_coerced_as_in_sql() {
    assert_eq!(verdicts("id = 2.0"), [Some(false), Some(true), Some(false)]);
    assert_eq!(verdicts("id IN (1, 3)"), [Some(true), Some(false), Some(true)]);
    assert_eq!(verdicts("cast(id as varchar) = '3'"), [Some(false), Some(false), Some(true)]);
}

#[test]
fn a_constant_condition_answers_for_every_row() {
    assert_eq!(verdicts("1 < 2"), [Some(true); 3]);
    assert_eq!(verdicts("NOT true"), [Some(false); 3]);
    assert_eq!(verdicts("cast(null as boolean)"), [None; 3]);
}

#[test]
fn what_is_not_a_condition_over_one_row_is_refused_with_its_reason() {
    let faults = [
        ("sum(id) > 3", "aggregate function sum"),
        ("row_number() OVER () = 1", "window function row_number"),
        ("id IN (SELECT 1)", ""),
        ("EXISTS (SELECT 1)", ""),
        ("(SELECT 1) = id", ""),
        ("random() > 0.5", "random()"),
        ("now() > cast('2024-01-01' as timestamp)", "now()"),
        ("current_date > cast('2024-01-01' as date)", "current_date()"),
        ("uuid() = name", "uuid()"),
        ("id + 1", "type Int64"),
        ("name", "type Utf8"),
        ("null", "type Null"),
        ("id = $1", "parameter $1"),
        ("id = ?", "parameter ?"),
        ("*", ""),
        ("colour = 'red'", "no column colour; columns: id, name, price"),
        ("id = ", ""),
        ("id = 1; DROP TABLE t", ""),
        ("id = 1 AND", ""),
        ("id = 1 garbage more", ""),
        ("id = 1 AS x", "alias x"),
        ("nosuchfunction(id)", "nosuchfunction"),
        ("unnest([true])", ""),
        ("", ""),
    ];
    for (expression, expected) in faults {
        let error = SqlChecks.compile(expression, &schema()).err();
        let error = error.unwrap_or_else(|| panic!("{expression} passed")).to_string();
        assert!(error.starts_with(&format!("topic option check: {expression}: ")), "{error}");
        assert!(error.contains(expected), "{expression}: {error}");
    }
}

#[test]
fn expressions_are_bounded_in_length_and_depth() {
    let bytes = schemas::limits::EXPRESSION_BYTES_MAX;
    let long = format!("name = '{}'", "x".repeat(bytes));
    let chain = format!("id = 0{}", " OR id=1".repeat(schemas::limits::SQL_OPERATORS_MAX / 2 + 1));
    let nested = format!("{}id = 1{}", "(".repeat(5_000), ")".repeat(5_000));
    for expression in [long, chain, nested] {
        let error = compile_predicate(&expression, &schema()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

#[test]
fn a_failing_evaluation_names_the_check() {
    let check = SqlChecks.compile("10 / (id - 2) > 0", &schema()).unwrap();
    let error = check.evaluate(&rows()).unwrap_err().to_string();
    assert!(error.contains("check 10 / (id - 2) > 0") && error.contains("Divide by zero"), "{error}");
}
