//! Each kind of damage, planted in a real table, is named: the object, and the law that it breaks.

mod metadata;
mod objects;
mod rows;
mod site;

use site::Site;

#[tokio::test]
async fn a_table_as_its_flushes_left_it_is_proven() {
    let site = Site::new().await;
    let facts = site.audit().await.unwrap();
    assert_eq!((facts.rows, facts.files), (9, 3));
    assert_eq!(facts.last_time, Some(9_000_000));
}

#[tokio::test]
async fn an_empty_table_is_proven() {
    let site = Site::empty().await;
    assert_eq!(site.audit().await.unwrap(), super::TableFacts::default());
}

#[tokio::test]
async fn a_table_whose_history_was_forgotten_is_proven() {
    let site = Site::new().await;
    site.edit(|metadata| {
        let main = metadata["current-snapshot-id"].clone();
        metadata["snapshots"].as_array_mut().unwrap().retain(|snapshot| snapshot["snapshot-id"] == main);
        metadata["snapshot-log"].as_array_mut().unwrap().retain(|entry| entry["snapshot-id"] == main);
    })
    .await;
    assert_eq!(site.audit().await.unwrap().rows, 9);
}

#[tokio::test]
async fn many_manifests_merged_into_one_are_proven() {
    let site = Site::empty().await;
    for first in 1..=70 {
        site.flush(first, &[("a", "eu")]).await;
    }
    assert_eq!(site.audit().await.unwrap().files, 70);
}
