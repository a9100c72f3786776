//! Flight SQL as drivers use it.

use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo,
    TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{FlightInfo, sql::CommandStatementIngest};

use super::*;

type Sql = FlightSqlServiceClient<Channel>;

async fn read(sql: &mut Sql, info: FlightInfo) -> Vec<RecordBatch> {
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    sql.do_get(ticket).await.expect("a stream").try_collect().await.expect("rows")
}

fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_see_what_is_flushed_and_what_is_not() {
    let mut here = Loop::start().await;
    here.put(path("orders"), vec![batch(0, 5)]).await.expect("answers");
    here.act("flush", &json!({})).await.expect("a flush");
    here.put(path("orders"), vec![batch(5, 5)]).await.expect("answers");
    let mut sql = Sql::new(here.channel.clone());
    sql.handshake("anyone", "anything").await.expect("welcome");
    for table in ["orders", "\"default\".orders", "firn.\"default\".orders"] {
        let query = format!("select count(*) as n, max(_seq) as seq, sum(amount) as amount from {table}");
        let info = sql.execute(query, None).await.expect("a plan");
        let schema = info.clone().try_decode_schema().expect("a schema");
        assert_eq!(schema.field(0).name(), "n");
        let found = read(&mut sql, info).await;
        assert_eq!((longs(&found, "n"), longs(&found, "seq"), longs(&found, "amount")), (vec![10], vec![10], vec![45]));
    }
    let refused = sql.execute("create table t (a int)".to_owned(), None).await.expect_err("read-only");
    assert!(refused.to_string().contains("InvalidArgument") || refused.to_string().contains("invalid"), "{refused}");
    sql.execute_update("delete from orders".to_owned(), None).await.expect_err("read-only");
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_runs_with_what_was_bound_last() {
    let mut here = Loop::start().await;
    here.put(path("orders"), vec![batch(0, 9)]).await.expect("answers");
    let mut sql = Sql::new(here.channel.clone());
    let query = "select amount from orders where id = $1 and amount >= $2 order by amount";
    let mut statement = sql.prepare(query.to_owned(), None).await.expect("prepared");
    assert_eq!(statement.parameter_schema().expect("a schema").fields().len(), 2);
    assert_eq!(statement.dataset_schema().expect("a schema").fields().len(), 1);
    for (id, least, expected) in [("o-1", 0, vec![1, 4, 7]), ("o-2", 4, vec![5, 8])] {
        let columns = [
            ("$1", Arc::new(StringArray::from(vec![id])) as ArrayRef),
            ("$2", Arc::new(Int64Array::from(vec![least])) as ArrayRef),
        ];
        statement.set_parameters(RecordBatch::try_from_iter(columns).expect("a row")).expect("bound");
        let info = statement.execute().await.expect("an info");
        assert_eq!(longs(&read(&mut sql, info).await, "amount"), expected);
    }
    statement.close().await.expect("closed");
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_finds_catalogs_tables_and_their_columns() {
    let here = Loop::start().await;
    let mut sql = Sql::new(here.channel.clone());
    let info = sql.get_catalogs().await.expect("catalogs");
    assert_eq!(read(&mut sql, info).await[0]["catalog_name"].as_string::<i32>().value(0), "firn");
    let info = sql.get_db_schemas(CommandGetDbSchemas::default()).await.expect("schemas");
    assert_eq!(read(&mut sql, info).await[0]["db_schema_name"].as_string::<i32>().value(0), "default");
    for (pattern, expected) in [(None, 1), (Some("ord%"), 1), (Some("nothing"), 0)] {
        let query = CommandGetTables {
            table_name_filter_pattern: pattern.map(str::to_owned),
            include_schema: true,
            ..CommandGetTables::default()
        };
        let info = sql.get_tables(query).await.expect("tables");
        let found = read(&mut sql, info).await;
        assert_eq!(rows(&found), expected);
        if let Some(batch) = found.first().filter(|batch| batch.num_rows() > 0) {
            let bytes = batch["table_schema"].as_binary::<i32>().value(0).to_vec();
            let schema = arrow::datatypes::Schema::try_from(arrow_flight::IpcMessage(bytes.into())).expect("a schema");
            assert!(schema.field_with_name("amount").is_ok() && schema.field_with_name("_seq").is_ok());
        }
    }
    let info = sql.get_table_types().await.expect("types");
    assert_eq!(read(&mut sql, info).await[0]["table_type"].as_string::<i32>().value(0), "TABLE");
    let info =
        sql.get_sql_info(vec![SqlInfo::FlightSqlServerName, SqlInfo::FlightSqlServerReadOnly]).await.expect("facts");
    assert_eq!(rows(&read(&mut sql, info).await), 2);
    let info = sql.get_sql_info(vec![]).await.expect("facts");
    assert!(rows(&read(&mut sql, info).await) > 70);
    let info = sql.get_xdbc_type_info(CommandGetXdbcTypeInfo::default()).await.expect("types");
    assert_eq!(rows(&read(&mut sql, info).await), 10);
    let keys = CommandGetPrimaryKeys { table: "orders".into(), ..Default::default() };
    let info = sql.get_primary_keys(keys).await.expect("keys");
    assert_eq!(read(&mut sql, info).await[0]["column_name"].as_string::<i32>().value(0), "_seq");
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_ingest_appends_to_a_topic_and_makes_none() {
    let here = Loop::start().await;
    let mut sql = Sql::new(here.channel.clone());
    let command = |table: &str, exists: TableExistsOption, not: TableNotExistOption| CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions { if_not_exist: not as i32, if_exists: exists as i32 }),
        table: table.into(),
        schema: None,
        catalog: None,
        temporary: false,
        transaction_id: None,
        options: Default::default(),
    };
    let append = command("orders", TableExistsOption::Append, TableNotExistOption::Fail);
    let batches = futures::stream::iter([Ok(batch(0, 300)), Ok(batch(300, 200))]);
    assert_eq!(sql.execute_ingest(append.clone(), batches).await.expect("ingested"), 500);
    let bad = futures::stream::iter([Ok(batch(0, 10)), Ok(batch(-1, 3))]);
    let error = sql.execute_ingest(append, bad).await.expect_err("a refused row").to_string();
    assert!(error.contains("row 0") && error.contains("10 rows"), "{error}");
    let create = command("invoices", TableExistsOption::Append, TableNotExistOption::Create);
    sql.execute_ingest(create, futures::stream::iter([Ok(batch(0, 1))])).await.expect_err("no such topic");
    here.server.shutdown().await;
}
