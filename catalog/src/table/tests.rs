mod faults;
mod foreign;
mod golden;
mod kinds;

use std::fs::File;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int8Type, Int64Type};
use iceberg::{Catalog, NamespaceIdent, TableIdent};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::PageIndexPolicy;
use schemas::envelope::{column, field_id};
use schemas::{ErrorKind, Seq, Watermark};
use tempfile::tempdir;

use super::encode::PAGE_BYTES;
use super::testing::{events, flush, open, orders, tenant};
use super::*;
use crate::topics::Topics;

#[tokio::test]
async fn what_is_flushed_is_in_the_table_sorted_and_described() {
    let folder = tempdir().unwrap();
    let tables = open(folder.path()).await;
    let def = orders();
    let empty = tables.ensure(&tenant(), &def).await.unwrap();
    assert_eq!((empty.watermark(), empty.snapshot_id()), (Watermark::START, None));
    assert!(empty.files().await.unwrap().files().is_empty());
    assert!(format!("{tables:?}").contains(empty.metadata_uri()), "printing them comes to an end");

    let first = [events(&def, 1, &[("b", "eu"), ("a", "us")]), events(&def, 3, &[("a", "eu"), ("b", "eu")])];
    flush(&tables, &def, 1, &first).await.unwrap();
    let state = flush(&tables, &def, 5, &[events(&def, 5, &[("c", "eu")])]).await.unwrap();
    assert_eq!(state.watermark(), Watermark(Seq(6)));
    assert_eq!(tables.current(&def).await.unwrap().metadata_uri(), state.metadata_uri());
    assert_eq!(open(folder.path()).await.ensure(&tenant(), &def).await.unwrap().metadata_uri(), state.metadata_uri());

    let set = state.files().await.unwrap();
    let file = &set.files()[0];
    assert_eq!((file.seqs, file.rows, &file.partition), ((Seq(1), Seq(4)), 4, &Partition::Level0));
    assert_eq!(file.keys, ("a".to_owned(), "b".to_owned()));
    assert_eq!(file.prefixes, ("orders/eu".to_owned(), "orders/us".to_owned()));
    let (lower, upper) = set.bounds(def.payload.field("amount").unwrap().1.id).unwrap();
    assert_eq!(lower.as_primitive::<Float64Type>().values(), &[1.0, 5.0]);
    assert_eq!(upper.as_primitive::<Float64Type>().values(), &[4.0, 5.0]);
    let (kinds, _) = set.bounds(field_id::KIND).unwrap();
    assert_eq!(kinds.as_primitive::<Int8Type>().values(), &[0, 0]);
    assert!(set.bounds(field_id::HEADERS).is_none());
    let nulls = set.null_counts(field_id::HEADERS_VALUE).unwrap();
    assert_eq!(nulls.null_count(), 2, "nothing is said of what lies inside maps");

    let path = folder.path().join(file.path.as_ref());
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(|batch| batch.unwrap()).collect();
    let rows = concat_batches(&batches[0].schema(), &batches).unwrap();
    assert_eq!(rows.column(column::SEQ).as_primitive::<Int64Type>().values(), &[3, 1, 4, 2]);
    assert_eq!(rows.schema().field(column::KIND).data_type(), &arrow::datatypes::DataType::Int32);
}

#[tokio::test]
async fn a_file_is_laid_out_for_look_ups() {
    let folder = tempdir().unwrap();
    let tables = open(folder.path()).await;
    let def = orders();
    tables.ensure(&tenant(), &def).await.unwrap();
    let keys: Vec<String> = (0..5_000).map(|key| format!("{key:0>200}")).collect();
    let rows: Vec<_> = keys.iter().map(|key| (key.as_str(), "eu")).collect();
    let state = flush(&tables, &def, 1, &[events(&def, 1, &rows)]).await.unwrap();
    let set = state.files().await.unwrap();
    let file = &set.files()[0];
    assert!(file.keys.0.len() < 200 && file.keys.0 <= keys[0] && file.keys.1 >= keys[4_999], "cut short, but bounds");

    let options =
        parquet::arrow::arrow_reader::ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let path = folder.path().join(file.path.as_ref());
    let built = ParquetRecordBatchReaderBuilder::try_new_with_options(File::open(path).unwrap(), options).unwrap();
    let pages = |leaf: usize| built.metadata().offset_index().unwrap()[0][leaf].page_locations();
    assert_eq!(pages(column::SEQ).len(), 5, "a page holds a thousand rows at most");
    let (key_pages, key_bytes) = (pages(column::KEY), keys.len() * (4 + keys[0].len()));
    assert!(key_pages.len() >= key_bytes / (2 * PAGE_BYTES), "and of long texts, fewer: {}", key_pages.len());
    let filter = built.get_row_group_column_bloom_filter(0, column::KEY).unwrap().unwrap();
    assert!(filter.check(&keys[17].as_str()));
    assert!((0..100).filter(|key| filter.check(&format!("absent {key}").as_str())).count() < 10);
    let ids = built.parquet_schema().columns().iter().map(|leaf| leaf.self_type().get_basic_info().id());
    assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 8, 9, 101, 102, 103]);
    let index = &built.metadata().column_index().unwrap()[0][column::KEY];
    let parquet::file::page_index::column_index::ColumnIndexMetaData::BYTE_ARRAY(index) = index else {
        panic!("strings")
    };
    let second = key_pages[1].first_row_index as usize;
    assert_eq!(index.min_value(1), Some(keys[second].as_bytes()), "keys are whole in the page index");
}

#[tokio::test]
async fn racing_flushers_of_the_same_rows_put_them_in_once() {
    let folder = tempdir().unwrap();
    let def = Arc::new(orders());
    let tables = [open(folder.path()).await, open(folder.path()).await, open(folder.path()).await];
    for tables in &tables {
        tables.ensure(&tenant(), &def).await.unwrap();
    }
    let flusher = |tables: Tables, rows: i64| {
        let def = Arc::clone(&def);
        tokio::spawn(async move {
            let mut from = 1;
            while from <= 60 {
                let keys = vec![("k", "eu"); rows.min(61 - from) as usize];
                let state = flush(&tables, &def, from, &[events(&def, from, &keys)]).await.unwrap();
                assert!(state.watermark().0.0 > from, "every call gets on");
                from = state.watermark().0.0;
            }
        })
    };
    let tasks: Vec<_> = tables.iter().zip([3, 4, 7]).map(|(tables, rows)| flusher(tables.clone(), rows)).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let state = tables[0].load(&def).await.unwrap();
    let mut end = 1;
    for file in state.files().await.unwrap().files() {
        assert_eq!((file.seqs.0.0, file.rows as i64), (end, file.seqs.1.0 - end + 1));
        end = file.seqs.1.0 + 1;
    }
    assert_eq!((end, state.watermark()), (61, Watermark(Seq(61))));
}

#[tokio::test]
async fn a_flush_that_comes_again_changes_nothing() {
    let folder = tempdir().unwrap();
    let (def, tables, other) = (orders(), open(folder.path()).await, open(folder.path()).await);
    tables.ensure(&tenant(), &def).await.unwrap();
    other.ensure(&tenant(), &def).await.unwrap();
    let rows = [events(&def, 1, &[("a", "eu"), ("b", "eu")])];
    let done = flush(&other, &def, 1, &rows).await.unwrap();
    let again = flush(&tables, &def, 1, &rows).await.unwrap();
    assert_eq!(again.metadata_uri(), done.metadata_uri());
    assert_eq!(tables.current(&def).await.unwrap().watermark(), Watermark(Seq(3)));
}

#[tokio::test]
async fn rows_beyond_the_watermark_stop_the_topic() {
    let folder = tempdir().unwrap();
    let (def, tables) = (orders(), open(folder.path()).await);
    tables.ensure(&tenant(), &def).await.unwrap();
    let error = flush(&tables, &def, 7, &[events(&def, 7, &[("a", "eu")])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = flush(&tables, &def, 1, &[events(&def, 2, &[("a", "eu")])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "rows are not what they are said to be");
}

#[tokio::test]
async fn a_topic_made_again_under_the_same_name_has_another_table() {
    let folder = tempdir().unwrap();
    let (old, new, tables) = (orders(), orders(), open(folder.path()).await);
    tables.ensure(&tenant(), &old).await.unwrap();
    flush(&tables, &old, 1, &[events(&old, 1, &[("a", "eu")])]).await.unwrap();
    assert_eq!(tables.ensure(&tenant(), &new).await.unwrap_err().kind(), ErrorKind::Conflict);

    let stale = open(folder.path()).await;
    stale.ensure(&tenant(), &old).await.unwrap();
    tables.drop_table(&tenant(), &old).await.unwrap();
    tables.drop_table(&tenant(), &old).await.unwrap();
    assert_eq!(tables.current(&old).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(tables.ensure(&tenant(), &old).await.unwrap_err().kind(), ErrorKind::NotFound);
    let state = tables.ensure(&tenant(), &new).await.unwrap();
    assert_eq!(state.watermark(), Watermark::START);
    tables.drop_table(&tenant(), &old).await.unwrap();
    tables.load(&new).await.unwrap();
    let error = flush(&stale, &old, 2, &[events(&old, 2, &[("a", "eu")])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test]
async fn many_small_manifests_become_one_and_no_file_is_lost() {
    let folder = tempdir().unwrap();
    let (def, tables) = (orders(), open(folder.path()).await);
    tables.ensure(&tenant(), &def).await.unwrap();
    for seq in 1..=40 {
        flush(&tables, &def, seq, &[events(&def, seq, &[("a", "eu")])]).await.unwrap();
    }
    let state = open(folder.path()).await.ensure(&tenant(), &def).await.unwrap();
    assert!(state.manifests().await.unwrap().len() <= 33);
    let files = state.files().await.unwrap();
    assert_eq!(files.files().iter().map(|file| file.seqs.0.0).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_catalog_shows_tables_and_refuses_to_change_them() {
    let folder = tempdir().unwrap();
    let (def, tables) = (orders(), open(folder.path()).await);
    let topics = Topics::new(tables.store().clone(), Env::system());
    topics.ensure_tenant(&tenant()).await.unwrap();
    topics.publish(&tenant(), Arc::new(def.clone()));
    tables.ensure(&tenant(), &def).await.unwrap();
    let state = flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu")])]).await.unwrap();

    let catalog = EmbeddedCatalog::new(tables.clone(), topics);
    let namespace = NamespaceIdent::new("default".to_owned());
    assert_eq!(catalog.list_namespaces(None).await.unwrap(), std::slice::from_ref(&namespace));
    let table = TableIdent::new(namespace.clone(), "orders".to_owned());
    assert_eq!(catalog.list_tables(&namespace).await.unwrap(), std::slice::from_ref(&table));
    assert!(catalog.table_exists(&table).await.unwrap());
    let loaded = catalog.load_table(&table).await.unwrap();
    assert_eq!(loaded.metadata_location(), Some(state.metadata_uri()));
    let unknown = TableIdent::new(namespace, "absent".to_owned());
    assert_eq!(catalog.load_table(&unknown).await.unwrap_err().kind(), iceberg::ErrorKind::TableNotFound);
    let error = catalog.drop_table(&table).await.unwrap_err();
    assert!(error.to_string().contains("firn topic drop"), "{error}");
}
