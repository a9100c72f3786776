use super::*;
use crate::env::Env;
use crate::storage::StoreConfig;

#[tokio::test]
async fn a_storage_that_was_written_down_says_that_it_has_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreConfig::at(dir.path().to_str().unwrap()), Env::system()).await.unwrap();
    let live: Arc<dyn Storage> = Arc::new(FirnStorage { store: Some(store.clone()) });
    assert!(!live.exists(&store.uri(&Path::from("x"))).await.unwrap());
    let text = serde_json::to_string(&live).unwrap();
    let read_back: Arc<dyn Storage> = serde_json::from_str::<Box<dyn Storage>>(&text).unwrap().into();
    let error = read_back.exists(&store.uri(&Path::from("x"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FeatureUnsupported, "{error}");
}

#[tokio::test]
async fn a_uri_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreConfig::at(dir.path().to_str().unwrap()), Env::system()).await.unwrap();
    let error = file_io(&store).new_input("file:///etc/passwd").unwrap().read().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataInvalid, "{error}");
}

#[tokio::test]
async fn a_writer_is_closed_once_and_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreConfig::at(dir.path().to_str().unwrap()), Env::system()).await.unwrap();
    let io = file_io(&store);
    let uri = store.uri(&Path::from("warehouse/x"));
    let mut writer = io.new_output(&uri).unwrap().writer().await.unwrap();
    writer.write(vec![0; 2 * PART_BYTES].into()).await.unwrap();
    drop(writer);
    assert!(!io.exists(&uri).await.unwrap());
    let mut writer = io.new_output(&uri).unwrap().writer().await.unwrap();
    writer.write(Bytes::from_static(b"x")).await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(writer.close().await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
    assert_eq!(writer.write(Bytes::from_static(b"y")).await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
}
