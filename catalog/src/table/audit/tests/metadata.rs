//! Metadata that is whole and wrong: as a defect, or somebody with a way in, would leave it.

use object_store::path::Path;
use serde_json::{Value, json};

use super::site::{Site, orders};
use crate::audit::laws;
use crate::table::testing::tenant;

/// The current snapshot.
fn main(metadata: &mut Value) -> &mut Value {
    let id = metadata["current-snapshot-id"].clone();
    let snapshots = metadata["snapshots"].as_array_mut().unwrap();
    snapshots.iter_mut().find(|snapshot| snapshot["snapshot-id"] == id).unwrap()
}

#[tokio::test]
async fn an_entry_that_is_missing_from_the_manifests_is_found_with_its_first_seq() {
    let site = Site::new().await;
    let mut files = site.live().await;
    files.remove(1);
    site.with_files(files.clone()).await;
    let fault = site.fault().await;
    assert!(fault.found.contains("6 in its manifests; none of its files begins with seq 4"), "{fault}");
    site.edit(|metadata| {
        main(metadata)["summary"].as_object_mut().unwrap().retain(|name, _| !name.starts_with("total-"))
    })
    .await;
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.found.as_str()), (laws::DENSE, "3, first seq 4"), "{fault}");
}

#[tokio::test]
async fn a_file_that_stands_twice_in_the_manifests_is_found() {
    let site = Site::new().await;
    let mut files = site.live().await;
    files.push(files[2].clone());
    site.with_files(files).await;
    let fault = site.fault().await;
    assert_eq!(fault.law, laws::ONCE);
    assert!(fault.found.contains("a second time"), "{fault}");
}

#[tokio::test]
async fn an_entry_that_lies_about_its_file_is_found() {
    let site = Site::new().await;
    let mut files = site.live().await;
    // All of another file's statistics, and this one's name and size.
    let (path, size) = (files[0].file_path().to_owned(), files[0].file_size_in_bytes());
    let schema = crate::table::schema::iceberg_schema(&site.def.payload, 0).unwrap();
    let encoded = crate::table::encode::encode(
        &[site.events(2, &[("c", "eu"), ("d", "us"), ("e", "eu")])],
        &site.def.event_schema(),
        &schema,
    )
    .unwrap();
    files[0] =
        crate::table::metrics::data_file(path, size, &encoded.footer, &schema, crate::table::metrics::Place::level0())
            .unwrap();
    site.with_files(files).await;
    let fault = site.fault().await;
    assert_eq!(fault.law, laws::INTACT);
    assert!(fault.place.contains("entry of"), "{fault}");
}

#[tokio::test]
async fn a_watermark_that_was_edited_is_found() {
    for watermark in [8, 11] {
        let site = Site::new().await;
        site.edit(|metadata| metadata["properties"]["firn.watermark"] = json!(format!("{{\"0\":{watermark}}}"))).await;
        assert_eq!(site.fault().await.law, laws::AGREED, "{watermark}");
    }
}

#[tokio::test]
async fn a_table_that_was_rolled_back_is_found() {
    let site = Site::new().await;
    site.edit(|metadata| {
        let parent = main(metadata)["parent-snapshot-id"].clone();
        metadata["current-snapshot-id"] = parent.clone();
        metadata["refs"]["main"]["snapshot-id"] = parent;
    })
    .await;
    let fault = site.fault().await;
    assert_eq!(fault.law, laws::AGREED);
    assert!(fault.found.contains("rolled back"), "{fault}");
}

#[tokio::test]
async fn flushes_that_do_not_tile_are_found() {
    for (name, value) in [
        ("firn.from", "{\"0\":6}"),
        ("firn.to", "{\"0\":11}"),
        ("firn.rows", "4"),
        ("firn.total-row-hash", "00000000000000000000000000000001"),
    ] {
        let site = Site::new().await;
        site.edit(|metadata| {
            metadata["properties"]["firn.total-row-hash"] = match name {
                "firn.total-row-hash" => json!(value),
                _ => metadata["properties"]["firn.total-row-hash"].clone(),
            };
            main(metadata)["summary"][name] = json!(value);
        })
        .await;
        let fault = site.fault().await;
        assert_eq!(fault.law, laws::TILED, "{name}: {fault}");
        assert!(fault.place.starts_with("snapshot "), "{fault}");
    }
}

#[tokio::test]
async fn a_total_that_the_last_flush_did_not_leave_is_found() {
    let site = Site::new().await;
    site.edit(|metadata| metadata["properties"]["firn.total-row-hash"] = json!("00000000000000000000000000000001"))
        .await;
    assert_eq!(site.fault().await.law, laws::AGREED);
}

#[tokio::test]
async fn the_table_of_another_topic_is_no_proof_of_this_one() {
    let site = Site::new().await;
    let other = orders("others");
    site.tables.ensure(&tenant(), &other).await.unwrap();
    let store = site.tables.store();
    let register = |name: &str| Path::from(format!("tenants/default/tables/{name}.json"));
    let [mine, other] = [register("orders"), register("others")];
    let (mine_now, others) = (store.read_register(&mine).await.unwrap(), store.read_register(&other).await.unwrap());
    store.swap_register(&mine, mine_now.as_ref().map(|now| &now.tag), others.unwrap().content).await.unwrap();
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.place.as_str()), (laws::IDENTITY, "topic"));
}

#[tokio::test]
async fn metadata_of_another_identity_is_found() {
    for (name, edit) in [
        (
            "table uuid",
            (|metadata: &mut Value| metadata["table-uuid"] = json!(uuid::Uuid::from_u128(7))) as fn(&mut Value),
        ),
        ("firn.topic", |metadata| metadata["properties"]["firn.topic"] = json!("another")),
        ("location", |metadata| metadata["location"] = json!("file:///elsewhere")),
    ] {
        let site = Site::new().await;
        site.edit(edit).await;
        let fault = site.fault().await;
        assert_eq!((fault.law, fault.place.as_str()), (laws::IDENTITY, name));
    }
}
