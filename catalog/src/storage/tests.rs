use super::*;

async fn folder() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    (dir, store)
}

async fn open(root: &std::path::Path) -> Result<Store> {
    Store::open(&StoreConfig::at(root.to_str().unwrap()), Env::system()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_folder_conforms() {
    let (_dir, store) = folder().await;
    conformance::check(&store, &Path::from("conformance")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_with_conditional_puts_conforms() {
    conformance::check(&in_memory(), &Path::from("conformance")).await;
}

fn in_memory() -> Store {
    let location = Location::s3("bucket", &Path::from("prefix"));
    Store::over(Arc::new(object_store::memory::InMemory::new()), location, Duration::from_secs(5), Env::system())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_folder_passes_the_probe_which_leaves_nothing() {
    let (dir, store) = folder().await;
    store.probe().await.unwrap();
    let left = std::fs::read_dir(dir.path().join("probe")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_store_of_a_newer_format_is_refused() {
    let (dir, store) = folder().await;
    let path = Path::from("firn.json");
    let found = store.read_register(&path).await.unwrap().expect("opening made it");
    let newer = Bytes::from_static(br#"{"least_reader":1,"least_writer":2,"later":true}"#);
    assert!(matches!(store.swap_register(&path, Some(&found.tag), newer).await, Ok(Swap::Won(_))));
    let error = open(dir.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("use a newer Firn"), "{error}");
}

#[tokio::test]
async fn a_store_on_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(open(file.path()).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
