use object_store::ObjectStoreExt;

use super::*;

fn open(root: &Path) -> LocalFolder {
    LocalFolder::open(root, &crate::Env::system().uuid().to_string()).unwrap()
}

fn scratch_of(root: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(root.join(SCRATCH)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder_or_into_its_temporary_files() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    for bad in ["..", "a/../../b", "/etc/passwd/../x", "."] {
        assert!(ObjectPath::parse(bad).is_err(), "{bad} is refused before it comes here");
        let encoded = ObjectPath::from(bad);
        folder.put(&encoded, "x".into()).await.unwrap();
        assert!(file(dir.path(), &encoded).unwrap().starts_with(dir.path()));
    }
    for bad in [ObjectPath::ROOT, ObjectPath::from(".tmp/x"), ObjectPath::from(".tmp")] {
        assert!(matches!(folder.put(&bad, "x".into()).await, Err(Error::NotSupported { .. })), "{bad}");
    }
}

#[tokio::test]
async fn temporary_files_of_the_dead_go_and_those_of_the_living_stay() {
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join(SCRATCH).join("dead");
    std::fs::create_dir_all(&dead).unwrap();
    std::fs::write(dead.join("0"), "half a segm").unwrap();
    let alive = open(dir.path());
    let mut upload = alive.put_multipart(&ObjectPath::from("big")).await.unwrap();
    upload.put_part("part".into()).await.unwrap();
    let newcomer = open(dir.path());
    assert!(!dead.exists());
    assert_eq!(scratch_of(dir.path()).len(), 2);
    let listed: Vec<_> = newcomer.list(None).try_collect().await.unwrap();
    assert!(listed.is_empty(), "a file without a name is no object: {listed:?}");
    upload.complete().await.unwrap();
    assert_eq!(newcomer.get(&ObjectPath::from("big")).await.unwrap().bytes().await.unwrap(), "part");
    drop((upload, alive, newcomer));
    assert!(scratch_of(dir.path()).is_empty(), "a store that is closed leaves nothing");
}

#[tokio::test]
async fn puts_go_on_after_their_folder_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    let path = ObjectPath::from("a/b/c");
    folder.put(&path, "one".into()).await.unwrap();
    std::fs::remove_dir_all(dir.path().join("a")).unwrap();
    assert!(matches!(folder.get(&path).await, Err(Error::NotFound { .. })));
    folder.put(&path, "two".into()).await.unwrap();
    assert_eq!(folder.get(&path).await.unwrap().bytes().await.unwrap(), "two");
}

#[tokio::test]
async fn a_file_longer_than_a_chunk_is_streamed_whole() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    let content: Bytes = (0..2 * CHUNK_BYTES + 7).map(|at| (at / 1000) as u8).collect();
    let path = ObjectPath::from("long");
    folder.put(&path, content.clone().into()).await.unwrap();
    let stream = folder.get(&path).await.unwrap().into_stream();
    let chunks: Vec<Bytes> = stream.try_collect().await.unwrap();
    assert_eq!(chunks.len(), 3);
    assert_eq!(chunks.concat(), content);
    let part = folder.get_range(&path, CHUNK_BYTES - 1..2 * CHUNK_BYTES + 1).await.unwrap();
    assert_eq!(part, content.slice(CHUNK_BYTES as usize - 1..2 * CHUNK_BYTES as usize + 1));
}

#[tokio::test]
async fn conditions_on_a_read_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    let path = ObjectPath::from("x");
    let first = folder.put(&path, "one".into()).await.unwrap().e_tag;
    let get = async |if_match| folder.get_opts(&path, GetOptions { if_match, ..Default::default() }).await;
    assert!(get(first.clone()).await.is_ok());
    folder.put(&path, "two".into()).await.unwrap();
    assert!(matches!(get(first).await, Err(Error::Precondition { .. })));
}

#[tokio::test]
async fn a_put_that_finds_no_place_says_that_nothing_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    folder.put(&ObjectPath::from("file"), "x".into()).await.unwrap();
    let error = folder.put(&ObjectPath::from("file/below"), "x".into()).await.unwrap_err();
    let Error::Generic { source, .. } = error else { panic!("{error}") };
    assert!(source.is::<Unplaced>(), "{source}");
}
