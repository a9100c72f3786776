//! Damage to the files themselves.

use std::path::PathBuf;

use super::site::{Site, flip};
use crate::audit::laws;

/// Every object that the table is made of now: metadata, manifest list, a manifest, a data file, and the pointer.
async fn kinds(site: &Site) -> Vec<PathBuf> {
    let state = site.tables.load(&site.def).await.unwrap();
    let list = state.metadata().current_snapshot().unwrap().manifest_list();
    let manifests = state.manifests().await.unwrap();
    let pointer = site.folder.path().join("tenants/default/tables/orders.json/0000000004.json");
    let others = [state.metadata_uri(), list, &manifests[0].manifest_path].map(|uri| site.store_file(uri));
    others.into_iter().chain([site.data_files()[1].clone(), pointer]).collect()
}

/// The name that a fault calls a file by; a register is a folder of numbered files.
fn name(path: &std::path::Path) -> String {
    let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    if path.parent().unwrap().ends_with("orders.json") { name(path.parent().unwrap()) } else { name(path) }
}

#[tokio::test]
async fn a_bit_that_flips_anywhere_in_any_object_is_found_and_the_object_named() {
    let site = Site::new().await;
    for path in kinds(&site).await {
        let whole = std::fs::read(&path).unwrap();
        for step in 0..24 {
            flip(&path, step * (whole.len() - 1) / 23);
            let fault = site.fault().await;
            assert!(fault.object.contains(&name(&path)), "{}: {fault}", path.display());
            assert!([laws::INTACT, laws::LINKED].contains(&fault.law), "{fault}");
            std::fs::write(&path, &whole).unwrap();
        }
    }
    site.audit().await.unwrap();
}

#[tokio::test]
async fn an_object_that_is_cut_short_or_gone_is_named() {
    let site = Site::new().await;
    for path in kinds(&site).await {
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let fault = site.fault().await;
        assert!(fault.object.contains(&name(&path)), "{}: {fault}", path.display());
        if !path.parent().unwrap().ends_with("orders.json") {
            std::fs::remove_file(&path).unwrap();
            let fault = site.fault().await;
            assert!(fault.object.contains(&name(&path)) && fault.found == "none", "{fault}");
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

#[tokio::test]
async fn two_data_files_that_changed_places_are_found() {
    let site = Site::new().await;
    let files = site.data_files();
    let aside = files[0].with_extension("aside");
    std::fs::rename(&files[0], &aside).unwrap();
    std::fs::rename(&files[2], &files[0]).unwrap();
    std::fs::rename(&aside, &files[2]).unwrap();
    let fault = site.fault().await;
    assert_eq!(fault.law, laws::INTACT);
    assert!(["bytes", "content hash"].contains(&fault.place.as_str()), "{fault}");
}

#[tokio::test]
async fn a_misdirected_object_is_found() {
    let site = Site::new().await;
    let kinds = kinds(&site).await;
    let other = std::fs::read(&kinds[1]).unwrap();
    std::fs::write(&kinds[2], other).unwrap();
    assert!(site.fault().await.object.contains(&name(&kinds[2])));
}
