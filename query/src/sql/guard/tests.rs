use super::*;

fn refusal(sql: &str) -> String {
    match statement(sql) {
        Ok(parsed) => panic!("passed: {parsed}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            error.to_string()
        }
    }
}

#[test]
fn reading_passes() {
    for sql in [
        "SELECT 1",
        "select * from orders where _key = 'o-17' order by _seq;",
        "WITH a AS (SELECT 1 AS x) SELECT * FROM a",
        "VALUES (1), (2)",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "SHOW TABLES",
        "SHOW COLUMNS FROM orders",
        "DESCRIBE orders",
        "SELECT a -> 'b', x::int, y[1] FROM default.orders",
    ] {
        statement(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[test]
fn everything_but_reading_is_refused_by_name() {
    for sql in [
        "INSERT INTO orders VALUES (1)",
        "UPDATE orders SET a = 1",
        "DELETE FROM orders",
        "MERGE INTO orders USING b ON true WHEN MATCHED THEN DELETE",
        "TRUNCATE TABLE orders",
        "DROP TABLE orders",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/etc'",
        "CREATE SCHEMA s",
        "CREATE FUNCTION f(int) RETURNS int RETURN $1",
        "ALTER TABLE orders RENAME TO b",
        "COPY orders TO '/tmp/out.parquet'",
        "COPY (SELECT 1) TO 's3://bucket/x'",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "SHOW ALL",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DEALLOCATE p",
        "BEGIN",
        "COMMIT",
        "GRANT SELECT ON orders TO bob",
        "USE other",
        "KILL 1",
        "EXPLAIN COPY orders TO 'x'",
        "EXPLAIN DELETE FROM orders",
        "ANALYZE orders",
        "LOAD DATA INPATH '/etc' INTO TABLE orders",
        "ATTACH DATABASE 'x' AS y",
    ] {
        refusal(sql);
    }
    assert!(refusal("DROP TABLE orders").starts_with("DROP is refused: SQL here only reads"));
}

#[test]
fn one_statement_at_a_time() {
    assert_eq!(refusal("SELECT 1; SELECT 2"), "expected one statement, found 2");
    assert_eq!(refusal(" ; "), "expected a statement, found nothing");
    refusal("SELECT 1; DROP TABLE orders");
}

#[test]
fn a_syntax_error_says_where() {
    assert!(refusal("SELECT * FORM orders").contains("Line: 1, Column: 10"), "{}", refusal("SELECT * FORM orders"));
    assert!(refusal("SELECT 'open").contains("Line: 1, Column: 8"), "{}", refusal("SELECT 'open"));
}

#[test]
fn question_marks_are_numbered_in_order() {
    let numbered = statement("SELECT '?', a FROM t WHERE b = ? AND c IN (?, ?) -- ?\n LIMIT ?").unwrap().to_string();
    assert_eq!(numbered, "SELECT '?', a FROM t WHERE b = $1 AND c IN ($2, $3) LIMIT $4");
    statement("SELECT $1, $2, $1").unwrap();
    assert!(refusal("SELECT ?, $1").contains("both"));
}

/// Each would overflow the stack of the thread if it came as far as a parser or a planner without bounds.
#[test]
fn size_and_depth_are_bounded() {
    let many = 200_000;
    let deep = [
        format!("SELECT {}1{}", "(".repeat(many), ")".repeat(many)),
        format!("SELECT 1{}", "+1".repeat(many)),
        format!("SELECT a{}", " IS NULL".repeat(many / 2)),
        format!("SELECT {}true", "NOT ".repeat(many)),
        format!("SELECT {}1", "- ".repeat(many)),
        format!("SELECT a{}", "[1]".repeat(many)),
        format!("SELECT a{}", "::int".repeat(many / 2)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(many / 10)),
        format!("SELECT * FROM t{}", ",t".repeat(many)),
        format!("SELECT * FROM t{}", ",t".repeat(SQL_RELATIONS_MAX)),
        format!("SELECT * FROM t{}", " JOIN t ON true".repeat(many / 10)),
        format!("{}SELECT 1", "EXPLAIN ".repeat(many / 2)),
        "EXPLAIN EXPLAIN SELECT 1".to_owned(),
        format!("SELECT {}", "CASE WHEN true THEN ".repeat(many / 10)),
        format!("SELECT {}", "f(".repeat(many)),
        format!("SELECT {}", "[".repeat(many)),
        format!("SELECT {}", "{a:".repeat(many)),
        format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX)),
        format!("SELECT 1 IN (1{})", ",1".repeat(SQL_TOKENS_MAX)),
        format!("SELECT * FROM (VALUES (1)) a{}", ",(VALUES (1)) a".repeat(many / 10)),
        format!("SELECT {}1", "SELECT ".repeat(many / 10)),
        format!("{}1", "(".repeat(many)),
        format!("WITH a AS {}", "(WITH a AS ".repeat(many / 20)),
    ];
    for sql in deep {
        refusal(&sql);
    }
}

/// Without its supply of attempts the parser tries each of these twice or thrice a level.
#[test]
fn nesting_that_never_ends_is_given_up_soon() {
    let forms = [
        "CASE WHEN true THEN ",
        "CAST(",
        "ARRAY[",
        "INTERVAL ",
        "SUBSTRING(",
        "POSITION(",
        "CEIL(",
        "OVERLAY(",
        "(a, b) -> (",
    ];
    for form in forms {
        refusal(&format!("SELECT {}", form.repeat(24)));
        refusal(&format!("SELECT {}", form.repeat(45)));
    }
    assert!(refusal(&format!("SELECT {}", "POSITION(".repeat(30))).contains("missing"));
    statement(&format!("SELECT {}1{}", "CAST(".repeat(20), " AS INT)".repeat(20))).unwrap();
    statement(&format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(20), " END".repeat(20))).unwrap();
}

#[test]
fn long_lists_within_the_bounds_pass() {
    statement(&format!("SELECT * FROM t WHERE a IN (0{})", ",1".repeat(10_000))).unwrap();
    statement(&format!("SELECT * FROM t WHERE a = 0{}", " OR a = 1".repeat(240))).unwrap();
    let columns: Vec<_> = (0..1_000).map(|i| format!("t.column_{i} AS c{i}")).collect();
    statement(&format!("SELECT {} FROM t", columns.join(", "))).unwrap();
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_panics(sql in "\\PC{0,200}") {
            let _ = statement(&sql);
            let _ = expression(&sql);
        }

        #[test]
        fn no_row_of_tokens_panics(words in prop::collection::vec(prop::sample::select(vec![
            "SELECT", "FROM", "WHERE", "(", ")", ",", "*", "t", "1", "'x'", "AND", "EXPLAIN", "COPY", "TO", "WITH", "AS", "?", "$1", "IN", "[", "]", ";",
        ]), 0..40)) {
            let _ = statement(&words.join(" "));
        }
    }
}
