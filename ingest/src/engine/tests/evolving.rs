//! Topics whose schemas change while they are written.

use arrow::array::{Array, Int32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use schemas::evolve::Rename;
use serde_json::{Value, json};

use super::parked::{go_on_until, healthy, replace_table, set_table, status};
use super::*;

fn fields(of: Value) -> Value {
    json!({"type": "record", "name": "Event", "fields": of})
}

/// `amount` is a long called `total`, and a channel was added.
fn second() -> Alter {
    let schema = fields(json!([
        {"name": "id", "type": "string"},
        {"name": "region", "type": "string"},
        {"name": "total", "type": "long", "aliases": ["amount"]},
        {"name": "channel", "type": "string", "default": "web"},
    ]));
    Alter { schema, renames: Vec::new(), expected_version: Some(1) }
}

/// Without the channel again, and with a note.
fn third() -> Alter {
    let schema = fields(json!([
        {"name": "note", "type": ["null", "string"]},
        {"name": "id", "type": "string"},
        {"name": "region", "type": "string"},
        {"name": "total", "type": "long"},
    ]));
    Alter { schema, renames: Vec::new(), expected_version: Some(2) }
}

/// A site whose topic has no checks.
async fn unchecked(site: &Site) -> Engine {
    let engine = site.unflushed().await;
    let spec: TopicSpec = serde_json::from_value(json!({
        "name": "orders", "schema": orders(1).schema, "key": ["id"], "path": "orders/{region}",
    }))
    .unwrap();
    engine.create_topic(&tenant(), spec).await.unwrap();
    engine
}

async fn alter(engine: &Engine, alter: Alter) -> Result<Altered> {
    engine.alter_topic(&tenant(), &name("orders"), alter).await
}

/// Rows of the second version.
fn totals(totals: std::ops::Range<i64>, channel: Option<&str>) -> RecordBatch {
    let text = |text: &dyn Fn(i64) -> String| {
        std::sync::Arc::new(StringArray::from_iter_values(totals.clone().map(text))) as arrow::array::ArrayRef
    };
    let channels = StringArray::from_iter(totals.clone().map(|_| channel));
    batch(vec![
        ("channel", std::sync::Arc::new(channels)),
        ("id", text(&|total| format!("o-{total}"))),
        ("region", text(&|total| format!("r{}", total % 3))),
        ("total", std::sync::Arc::new(Int64Array::from_iter_values(totals.clone()))),
    ])
}

/// Seq, total and channel of every event in the tail, whatever they are called.
fn seen(engine: &Engine) -> Vec<(i64, i64, Option<String>)> {
    let def = engine.topic(&tenant(), &name("orders")).unwrap();
    let held = engine.tail().snapshot(&def.id).unwrap();
    assert_eq!(held.def.version, def.version);
    let mut rows = Vec::new();
    for chunk in &held.chunks {
        let events = chunk.batch();
        assert_eq!(events.schema(), held.def.event_schema(), "all of a tail has one schema");
        let total = |row: usize| match events.column_by_name("amount") {
            Some(amounts) => i64::from(amounts.as_primitive::<Int32Type>().value(row)),
            None => events.column_by_name("total").unwrap().as_primitive::<Int64Type>().value(row),
        };
        let channel = |row: usize| {
            let channels = events.column_by_name("channel")?.as_string::<i32>();
            channels.is_valid(row).then(|| channels.value(row).to_owned())
        };
        let seqs = events.column(column::SEQ).as_primitive::<Int64Type>();
        rows.extend((0..events.num_rows()).map(|row| (seqs.value(row), total(row), channel(row))));
    }
    rows
}

fn told(channel: &str) -> Option<String> {
    Some(channel.to_owned())
}

#[tokio::test]
async fn old_and_new_producers_append_at_once_and_every_row_has_the_newest_schema() {
    let site = Site::new();
    let engine = unchecked(&site).await;
    let mut old = appender(&engine, OnError::RejectBatch).await;
    old.submit(order_rows(1..3), Terms::default()).await.unwrap().await.unwrap();
    let altered = alter(&engine, second()).await.unwrap();
    assert_eq!((altered.def.version, altered.changes.len()), (2, 3), "{:?}", altered.changes);
    // The one that began before goes on with the columns that it knows, and what was added since gets its default.
    old.submit(order_rows(3..4), Terms::default()).await.unwrap().await.unwrap();
    let mut new = appender(&engine, OnError::RejectBatch).await;
    new.submit(totals(4..5, Some("shop")), Terms::default()).await.unwrap().await.unwrap();
    // A null is a value that was left out: the schema says that there is one.
    new.submit(totals(1 << 40..(1 << 40) + 1, None), Terms::default()).await.unwrap().await.unwrap();
    // One that is made now for the columns of before.
    let options = AppendOptions { schema_version: Some(1), ..AppendOptions::default() };
    let mut late = engine.appender(&tenant(), &name("orders"), options).await.unwrap();
    late.submit(order_rows(5..6), Terms::default()).await.unwrap().await.unwrap();
    assert_eq!(
        seen(&engine),
        [
            (1, 1, None),
            (2, 2, None),
            (3, 3, told("web")),
            (4, 4, told("shop")),
            (5, 1 << 40, told("web")),
            (6, 5, told("web")),
        ]
    );
    let error = appender(&engine, OnError::RejectBatch).await.submit(order_rows(6..7), Terms::default()).await;
    let error = error.map(|_| ()).unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("column total"), "{error}");
    let options = AppendOptions { schema_version: Some(9), ..AppendOptions::default() };
    let error = engine.appender(&tenant(), &name("orders"), options).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("from 1 to 2"), "{error}");
}

#[tokio::test]
async fn a_change_survives_a_crash_before_and_after_checkpoint_flush_and_register() {
    for (checkpoints, flushes) in [(false, false), (true, false), (false, true), (true, true)] {
        let site = Site::new();
        let engine = unchecked(&site).await;
        append(&engine, 1..4).await.unwrap();
        alter(&engine, second()).await.unwrap();
        appender(&engine, OnError::RejectBatch)
            .await
            .submit(totals(4..6, Some("shop")), Terms::default())
            .await
            .unwrap()
            .await
            .unwrap();
        if flushes {
            engine.flush(&tenant(), None).await.unwrap();
        }
        if checkpoints {
            engine.shutdown(Duration::ZERO).await;
        }
        drop(engine);
        let engine = site.unflushed().await;
        let def = engine.topic(&tenant(), &name("orders")).unwrap();
        assert_eq!(def.version, 2);
        if !flushes && !checkpoints {
            let expected = [(1, 1, None), (2, 2, None), (3, 3, None), (4, 4, told("shop")), (5, 5, told("shop"))];
            assert_eq!(seen(&engine), expected, "checkpoint: {checkpoints}");
        }
        // The third version, and rows of the first two in one flush with it.
        appender(&engine, OnError::RejectBatch)
            .await
            .submit(totals(6..7, Some("shop")), Terms::default())
            .await
            .unwrap()
            .await
            .unwrap();
        alter(&engine, third()).await.unwrap();
        let parts = &engine.host.parts;
        let verifier = crate::verify::Verifier::new(parts.store.clone(), parts.env.clone(), Default::default());
        let ahead = verifier.topic(&tenant(), &name("orders")).await;
        assert_eq!(ahead.verdict, crate::verify::Verdict::Proven, "the lane is ahead of the table");
        engine.flush(&tenant(), None).await.unwrap();
        let mut reports = Vec::new();
        verifier.all(|report| reports.push(report)).await;
        for report in &reports {
            assert_eq!(report.verdict, crate::verify::Verdict::Proven, "checkpoint: {checkpoints}, flush: {flushes}");
        }
        assert!(!reports.is_empty());
        // After the drop the hash begins anew, and goes on.
        let options = AppendOptions { schema_version: Some(2), ..AppendOptions::default() };
        let mut late = engine.appender(&tenant(), &name("orders"), options).await.unwrap();
        late.submit(totals(7..8, Some("gone")), Terms::default()).await.unwrap().await.unwrap();
        engine.flush(&tenant(), None).await.unwrap();
        let report = verifier.topic(&tenant(), &name("orders")).await;
        assert_eq!(report.verdict, crate::verify::Verdict::Proven);
        // A file without the columns that were dropped proves nothing of them, and is no fault either.
        assert_eq!(engine.compact_topic(&tenant(), &name("orders"), true).await.unwrap().jobs, 1);
        is_proven(&engine).await;
    }
}

#[tokio::test]
async fn a_change_whose_register_was_not_told_is_followed_by_the_next_owner() {
    let site = Site::new();
    let engine = unchecked(&site).await;
    let def = engine.topic(&tenant(), &name("orders")).unwrap();
    let (next, _) = def.altered(second().schema, &[]).unwrap().unwrap();
    // As a process does that dies between the lane's record and the register.
    let shape = Arc::new(crate::rows::Shape::new(Arc::new(next.clone())).unwrap());
    let lane = engine.host.lane(def.lane).unwrap();
    lane.ask(|answer| Command::Change { shape, answer }).await.unwrap();
    let registered = |engine: &Engine| {
        let topics = engine.host.parts.topics.clone();
        async move { topics.registered(&tenant(), &name("orders")).await.unwrap().unwrap().1.version }
    };
    assert_eq!(registered(&engine).await, 1);
    drop((engine, lane));
    let engine = site.unflushed().await;
    assert_eq!(registered(&engine).await, 2);
    assert_eq!(*engine.topic(&tenant(), &name("orders")).unwrap(), next);
    let first = engine.topic_version(&tenant(), &next, 1).await.unwrap();
    assert_eq!(first, def, "and the version before is still known");
}

#[tokio::test]
async fn what_cannot_follow_is_refused_and_changes_nothing() {
    let site = Site::new();
    let engine = site.unflushed().await;
    engine.create_topic(&tenant(), spec()).await.unwrap();
    let told = |error: IngestError| (error.kind(), error.to_string());
    // The check names the column by its old name.
    let (kind, message) = told(alter(&engine, second()).await.unwrap_err());
    assert!(
        kind == ErrorKind::Invalid && message.contains("check") && message.contains("keeps its schema"),
        "{message}"
    );
    let narrower = fields(
        json!([{"name": "id", "type": "string"}, {"name": "region", "type": "string"}, {"name": "amount", "type": "string"}]),
    );
    let refused = Alter { schema: narrower, renames: Vec::new(), expected_version: None };
    let (kind, message) = told(alter(&engine, refused).await.unwrap_err());
    assert!(kind == ErrorKind::Invalid && message.contains("from int to string"), "{message}");
    let stale = Alter { expected_version: Some(7), ..second() };
    assert_eq!(alter(&engine, stale).await.unwrap_err().kind(), ErrorKind::Conflict);
    let same = Alter { schema: spec().schema, renames: Vec::new(), expected_version: None };
    assert_eq!(alter(&engine, same).await.unwrap().changes, Vec::<String>::new());
    assert_eq!(engine.topic(&tenant(), &name("orders")).unwrap().version, 1);
    append(&engine, 1..2).await.unwrap();

    let missing = engine.alter_topic(&tenant(), &name("nothing"), second()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    appender(&engine, OnError::DeadLetter).await;
    let (kind, message) = told(
        engine
            .alter_topic(&tenant(), &name("orders_dead"), Alter { expected_version: None, ..second() })
            .await
            .unwrap_err(),
    );
    assert!(kind == ErrorKind::Invalid && message.contains("dead letters"), "{message}");
}

#[tokio::test]
async fn two_names_are_swapped_under_a_producer_that_goes_on() {
    let site = Site::new();
    let engine = site.unflushed().await;
    let two = || {
        fields(json!([{"name": "id", "type": "string"}, {"name": "a", "type": "int"}, {"name": "b", "type": "int"}]))
    };
    let spec: TopicSpec = serde_json::from_value(json!({"name": "pairs", "schema": two(), "key": ["id"]})).unwrap();
    engine.create_topic(&tenant(), spec).await.unwrap();
    let rows = |id: &str| {
        batch(vec![
            ("id", std::sync::Arc::new(StringArray::from(vec![id]))),
            ("a", std::sync::Arc::new(Int32Array::from(vec![1]))),
            ("b", std::sync::Arc::new(Int32Array::from(vec![2]))),
        ])
    };
    let mut old = engine.appender(&tenant(), &name("pairs"), AppendOptions::default()).await.unwrap();
    old.submit(rows("before"), Terms::default()).await.unwrap().await.unwrap();
    let renames = [("a", "b"), ("b", "a")].map(|(from, to)| Rename { from: from.into(), to: to.into() }).to_vec();
    engine
        .alter_topic(&tenant(), &name("pairs"), Alter { schema: two(), renames, expected_version: Some(1) })
        .await
        .unwrap();
    old.submit(rows("after"), Terms::default()).await.unwrap().await.unwrap();
    let mut new = engine.appender(&tenant(), &name("pairs"), AppendOptions::default()).await.unwrap();
    new.submit(rows("new"), Terms::default()).await.unwrap().await.unwrap();
    let def = engine.topic(&tenant(), &name("pairs")).unwrap();
    let held = engine.tail().snapshot(&def.id).unwrap();
    let column = |name: &str| -> Vec<i32> {
        let of = |chunk: &Arc<catalog::view::TailChunk>| {
            chunk.batch().column_by_name(name).unwrap().as_primitive::<Int32Type>().values().to_vec()
        };
        held.chunks.iter().flat_map(of).collect()
    };
    assert_eq!((column("a"), column("b")), (vec![2, 2, 1], vec![1, 1, 2]), "a producer means the columns that it knew");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_by_follows_a_change_and_goes_on_from_it_as_the_next_owner() {
    let site = Site::new();
    let node = |number: u32| {
        let advertise = Some(format!("grpc://node-{number}"));
        Settings { advertise, heartbeat_ms: 20, silence_ms: 3_600_000, ..unflushed() }
    };
    let first = site.open(node(1)).await.unwrap();
    let spec: TopicSpec = serde_json::from_value(json!({
        "name": "orders", "schema": orders(1).schema, "key": ["id"], "path": "orders/{region}",
    }))
    .unwrap();
    first.create_topic(&tenant(), spec).await.unwrap();
    append(&first, 1..3).await.unwrap();
    let second = site.open(node(2)).await.unwrap();
    second.catch_up().await.unwrap();
    assert_eq!(seen(&second), [(1, 1, None), (2, 2, None)]);
    let refused = alter(&second, self::second()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);

    alter(&first, self::second()).await.unwrap();
    let mut new = appender(&first, OnError::RejectBatch).await;
    new.submit(totals(3..4, Some("shop")), Terms::default()).await.unwrap().await.unwrap();
    second.catch_up().await.unwrap();
    let expected = [(1, 1, None), (2, 2, None), (3, 3, told("shop"))];
    assert_eq!(seen(&second), expected);
    second.take_over(None).await.unwrap();
    assert_eq!(seen(&second), expected);
    alter(&second, third()).await.unwrap();
    second.flush(&tenant(), None).await.unwrap();
    let def = second.topic(&tenant(), &name("orders")).unwrap();
    assert_eq!((def.version, second.host.parts.tables.current(&def).await.unwrap().watermark().0), (3, Seq(4)));
}

/// Appends rows of the second version.
async fn append_totals(engine: &Engine, rows: std::ops::Range<i64>) -> Result<Receipt> {
    appender(engine, OnError::RejectBatch).await.submit(totals(rows, Some("shop")), Terms::default()).await?.await
}

async fn is_proven(engine: &Engine) {
    let parts = &engine.host.parts;
    let verifier = crate::verify::Verifier::new(parts.store.clone(), parts.env.clone(), Default::default());
    let report = verifier.topic(&tenant(), &name("orders")).await;
    assert_eq!(report.verdict, crate::verify::Verdict::Proven);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_fenced_refuses_no_change() {
    let site = Site::new();
    // Neither hears of the other by itself.
    let node = |number: u32| {
        let advertise = Some(format!("grpc://node-{number}"));
        Settings { advertise, heartbeat_ms: 3_600_000, silence_ms: 3_600_000, ..unflushed() }
    };
    let first = site.open(node(1)).await.unwrap();
    let spec = TopicSpec { checks: Vec::new(), ..spec() };
    first.create_topic(&tenant(), spec).await.unwrap();
    let second = site.open(node(2)).await.unwrap();
    second.take_over(None).await.unwrap();
    alter(&second, self::second()).await.unwrap();
    // By what the first still knows the topic has version 1, and this is refused; but it is no longer the one to say so.
    let error = alter(&first, third()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Indeterminate), "{error}");
    assert_eq!(alter(&second, third()).await.unwrap().def.version, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_known_after_their_records_have_left_the_log() {
    let site = Site::new();
    let settings = Settings { checkpoint_bytes: 1, ..unflushed() };
    let engine = site.open(settings.clone()).await.unwrap();
    engine.create_topic(&tenant(), TopicSpec { checks: Vec::new(), ..spec() }).await.unwrap();
    append(&engine, 1..3).await.unwrap();
    alter(&engine, second()).await.unwrap();
    append_totals(&engine, 3..4).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    engine.shutdown(Duration::from_secs(10)).await;
    drop(engine);
    assert_eq!(site.segments().len(), 0, "the floor has passed every record");

    let engine = site.open(settings).await.unwrap();
    let options = AppendOptions { schema_version: Some(1), ..AppendOptions::default() };
    let mut old = engine.appender(&tenant(), &name("orders"), options).await.unwrap();
    old.submit(order_rows(4..5), Terms::default()).await.unwrap().await.unwrap();
    append_totals(&engine, 5..6).await.unwrap();
    assert_eq!(seen(&engine), [(4, 4, told("web")), (5, 5, told("shop"))]);
    alter(&engine, third()).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    is_proven(&engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_parked_after_a_change_is_taken_up_again_with_it() {
    let site = Site::new();
    let settings = Settings { checkpoint_bytes: 1, ..unflushed() };
    let engine = site.open(settings.clone()).await.unwrap();
    engine.create_topic(&tenant(), TopicSpec { checks: Vec::new(), ..spec() }).await.unwrap();
    engine.create_topic(&tenant(), healthy()).await.unwrap();
    append(&engine, 1..3).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    append(&engine, 3..5).await.unwrap();
    alter(&engine, second()).await.unwrap();
    append_totals(&engine, 5..6).await.unwrap();
    let table = replace_table(&site);
    engine.flush(&tenant(), Some(&name("orders"))).await.unwrap_err();
    let refused = alter(&engine, third()).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Conflict && refused.to_string().contains("has stopped"), "{refused}");
    go_on_until(&engine, || status(&engine).standing == Standing::Parked && site.segments().len() <= 1).await;
    drop(engine);

    set_table(&site, &table);
    let engine = site.open(settings).await.unwrap();
    assert_eq!(seen(&engine), [(3, 3, None), (4, 4, None), (5, 5, told("shop"))], "from the parked object");
    engine.resume_topic(&tenant(), &name("orders")).await.unwrap();
    alter(&engine, third()).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    let def = engine.topic(&tenant(), &name("orders")).unwrap();
    assert_eq!((def.version, engine.host.parts.tables.current(&def).await.unwrap().watermark().0), (3, Seq(6)));
    is_proven(&engine).await;
}

#[tokio::test]
async fn a_check_goes_on_asking_about_the_field_that_it_asked_about() {
    let site = Site::new();
    let engine = site.unflushed().await;
    let three = |names: [&str; 3]| {
        let [id, a, b] = names;
        fields(json!([{"name": id, "type": "string"}, {"name": a, "type": "int"}, {"name": b, "type": "int"}]))
    };
    let spec: TopicSpec = serde_json::from_value(json!({
        "name": "pairs", "schema": three(["id", "a", "b"]), "key": ["id"], "checks": ["a > 0"],
    }))
    .unwrap();
    engine.create_topic(&tenant(), spec).await.unwrap();
    let renames = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(from, to)| Rename { from: (*from).into(), to: (*to).into() }).collect::<Vec<_>>()
    };
    let change = async |names: [&str; 3], pairs: &[(&str, &str)]| {
        let alter = Alter { schema: three(names), renames: renames(pairs), expected_version: None };
        engine.alter_topic(&tenant(), &name("pairs"), alter).await
    };
    let refused = change(["id", "a", "b"], &[("a", "b"), ("b", "a")]).await.unwrap_err();
    let says = "field \"a\": is another field than the one that the check \"a > 0\" asks about";
    assert!(refused.kind() == ErrorKind::Invalid && refused.to_string().contains(says), "{refused}");
    let refused = change(["id", "c", "b"], &[("a", "c")]).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Invalid && refused.to_string().contains("which its checks"), "{refused}");
    assert_eq!(change(["id", "a", "c"], &[("b", "c")]).await.unwrap().changes, ["b is called c"]);
}
