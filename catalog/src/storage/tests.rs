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
    let objects = rooted::Rooted::new(object_store::memory::InMemory::new(), Path::from("deep/prefix"));
    conformance::check(&over(objects), &Path::from("conformance")).await;
}

fn over(objects: impl ObjectStore) -> Store {
    let location = Location::s3("bucket", &Path::from("deep/prefix"));
    Store::over(Arc::new(objects), location, Duration::from_secs(5), Env::system())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_folder_passes_the_probe_which_leaves_nothing() {
    let (dir, store) = folder().await;
    store.probe().await.unwrap();
    let left = std::fs::read_dir(dir.path().join("probe")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_refuses_a_store_that_breaks_an_axiom_and_names_it() {
    use faults::{Breach, Faulty};
    for (breach, axiom) in [(Breach::LateCreate, "X4"), (Breach::LateSwap, "X3"), (Breach::NoCondition, "X4")] {
        let error = over(Faulty::broken(breach)).probe().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(axiom), "{breach:?}: {error}");
    }
    over(Faulty::default()).probe().await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: FIRN_TEST_S3=s3://bucket/prefix and the AWS_* variables"]
async fn an_s3_store_conforms_and_passes_the_probe() {
    let config = StoreConfig::at(std::env::var("FIRN_TEST_S3").expect("FIRN_TEST_S3 names a bucket"));
    let env = Env::system();
    let prefix = Path::from(format!("conformance/{}", env.uuid()));
    let store = Store::open(&config, env).await.unwrap();
    store.probe().await.unwrap();
    conformance::check(&store, &prefix).await;
    store.remove_prefix(&prefix).await.unwrap();
}
