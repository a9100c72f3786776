//! What every store must do, as checks that panic: run against each kind of store by the tests.
//!
//! Each check works under a prefix that it is given and that nobody else uses. Races are the probe's matter ([`Store::probe`]).

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use schemas::ErrorKind;

use super::{Creation, Store, Swap};

/// All the checks, under `prefix`. Panics at the first that fails.
pub async fn check(store: &Store, prefix: &Path) {
    puts_and_gets(store, &prefix.clone().join("puts")).await;
    ranges(store, &prefix.clone().join("ranges")).await;
    lists_and_deletes(store, &prefix.clone().join("lists")).await;
    multipart_uploads(store, &prefix.clone().join("parts")).await;
    registers(store, &prefix.clone().join("registers")).await;
    segments(store, &prefix.clone().join("segments")).await;
    iceberg_io(store, &prefix.clone().join("iceberg")).await;
}

async fn get(store: &Store, path: &Path) -> Bytes {
    let found = store.objects().get(path).await.expect("the object is there");
    found.bytes().await.expect("its bytes can be read")
}

async fn put(store: &Store, path: &Path, bytes: &'static [u8]) {
    store.objects().put(path, PutPayload::from_static(bytes)).await.expect("a put succeeds");
}

async fn puts_and_gets(store: &Store, prefix: &Path) {
    let path = prefix.clone().join("deep").join("down").join("a b%c");
    let absent = store.objects().get(&path).await.expect_err("nothing is there yet");
    assert!(matches!(absent, Error::NotFound { .. }), "{absent}");
    put(store, &path, b"one").await;
    assert_eq!(get(store, &path).await, "one");
    put(store, &path, b"another").await;
    assert_eq!(get(store, &path).await, "another", "a put replaces");
    let create = store.objects().put_opts(&path, PutPayload::from_static(b"third"), PutMode::Create.into()).await;
    let taken = create.expect_err("the name is taken");
    assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken}");
    assert_eq!(get(store, &path).await, "another", "a refused create changes nothing");
    let meta = store.objects().head(&path).await.expect("the object is there");
    assert_eq!((meta.size, &meta.location), (7, &path));
    put(store, &path, b"").await;
    assert_eq!(get(store, &path).await, "", "an object may be empty");
    let copy = prefix.clone().join("copy");
    store.objects().copy(&path, &copy).await.expect("a copy succeeds");
    assert_eq!(get(store, &copy).await, "");
    assert_eq!(store.path(&store.uri(&path)).expect("a URI under the root"), path);
}

async fn ranges(store: &Store, prefix: &Path) {
    let path = prefix.clone().join("object");
    put(store, &path, b"0123456789").await;
    let objects = store.objects();
    assert_eq!(objects.get_range(&path, 2..5).await.expect("a range"), "234");
    assert_eq!(objects.get_range(&path, 8..20).await.expect("a range cut at the end"), "89");
    let several = objects.get_ranges(&path, &[0..1, 9..10, 4..6]).await.expect("ranges");
    assert_eq!(several, ["0", "9", "45"]);
    assert!(objects.get_range(&path, 10..11).await.is_err(), "a range beyond the end is an error");
}

async fn lists_and_deletes(store: &Store, prefix: &Path) {
    let objects = store.objects();
    let at = |name: &str| Path::from(format!("{prefix}/{name}"));
    for name in ["a/1", "a/2", "a/deep/3", "ab/4"] {
        put(store, &at(name), b"x").await;
    }
    let listed = async |prefix: &Path| -> Vec<Path> {
        let mut found: Vec<_> =
            objects.list(Some(prefix)).map_ok(|meta| meta.location).try_collect().await.expect("a listing");
        found.sort();
        found
    };
    assert_eq!(listed(&at("a")).await, [at("a/1"), at("a/2"), at("a/deep/3")], "a prefix is whole levels");
    assert_eq!(listed(&at("none")).await, []);
    let level = objects.list_with_delimiter(Some(&at("a"))).await.expect("a listing of one level");
    assert_eq!(level.common_prefixes, [at("a/deep")]);
    assert_eq!(level.objects.iter().map(|meta| &meta.location).collect::<Vec<_>>(), [&at("a/1"), &at("a/2")]);
    let doomed = futures::stream::iter([Ok(at("a/1")), Ok(at("a/deep/3"))]).boxed();
    objects.delete_stream(doomed).try_collect::<Vec<_>>().await.expect("deletes succeed");
    assert_eq!(listed(prefix).await, [at("a/2"), at("ab/4")]);
    objects.delete(&at("a/1")).await.expect("to delete what is gone succeeds");
}

async fn multipart_uploads(store: &Store, prefix: &Path) {
    const PART_BYTES: usize = 5 << 20;
    let path = prefix.clone().join("object");
    let mut upload = store.objects().put_multipart(&path).await.expect("an upload begins");
    let part = |byte: u8, length: usize| PutPayload::from(vec![byte; length]);
    let parts = [
        upload.put_part(part(b'a', PART_BYTES)),
        upload.put_part(part(b'b', PART_BYTES)),
        upload.put_part(part(b'c', 3)),
    ];
    // In whatever order they arrive.
    for sent in futures::future::join_all(parts.into_iter().rev()).await {
        sent.expect("a part is taken");
    }
    assert!(store.objects().head(&path).await.is_err(), "nothing bears the name before it is complete");
    upload.complete().await.expect("the upload ends");
    let found = get(store, &path).await;
    assert_eq!(found.len(), 2 * PART_BYTES + 3);
    assert_eq!([found[0], found[PART_BYTES - 1], found[PART_BYTES], found[2 * PART_BYTES]], *b"aabc");

    let aborted = prefix.clone().join("aborted");
    let mut upload = store.objects().put_multipart(&aborted).await.expect("an upload begins");
    upload.put_part(part(b'x', 1)).await.expect("a part is taken");
    upload.abort().await.expect("an upload can be given up");
    assert!(store.objects().head(&aborted).await.is_err(), "an upload given up leaves nothing");
}

async fn registers(store: &Store, prefix: &Path) {
    let path = prefix.clone().join("register.json");
    let json = |text: &'static str| Bytes::from_static(text.as_bytes());
    let won = |swap: Swap| match swap {
        Swap::Won(tag) => tag,
        Swap::Lost => panic!("a swap of what is there wins"),
    };
    assert!(store.read_register(&path).await.expect("a read").is_none(), "nothing is there yet");
    let first = won(store.swap_register(&path, None, json(r#"{"n":1}"#)).await.expect("a swap"));
    let found = store.read_register(&path).await.expect("a read").expect("a revision");
    assert_eq!((&found.content[..], &found.tag), (&br#"{"n":1}"#[..], &first));
    assert_eq!(store.swap_register(&path, None, json("{}")).await.expect("a swap"), Swap::Lost, "it exists");
    let second = won(store.swap_register(&path, Some(&first), json(r#"{ "n": 2 }"#)).await.expect("a swap"));
    assert_ne!(first, second);
    assert_eq!(store.swap_register(&path, Some(&first), json("{}")).await.expect("a swap"), Swap::Lost, "it moved on");
    let third = won(store.swap_register(&path, Some(&second), json(r#"{"n":1}"#)).await.expect("a swap"));
    assert_ne!(first, third, "the same content again is another revision");
    assert_eq!(store.swap_register(&path, Some(&first), json("{}")).await.expect("a swap"), Swap::Lost);
    let found = store.read_register(&path).await.expect("a read").expect("a revision");
    assert_eq!((&found.content[..], &found.tag), (&br#"{"n":1}"#[..], &third));
    let refused = store.swap_register(&path, Some(&third), json("{")).await.expect_err("not JSON");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

async fn segments(store: &Store, prefix: &Path) {
    let path = prefix.clone().join("7").join("0");
    let bytes = Bytes::from_static;
    assert_eq!(store.read_segment(&path).await.expect("a read"), None, "the slot is empty");
    let create = async |content| store.create_segment(&path, content).await.expect("a definite answer");
    assert_eq!(create(bytes(b"mine")).await, Creation::Mine);
    assert_eq!(create(bytes(b"mine")).await, Creation::Mine, "the bytes decide, not who asks");
    assert_eq!(create(bytes(b"other")).await, Creation::Others(bytes(b"mine")));
    assert_eq!(store.read_segment(&path).await.expect("a read"), Some(bytes(b"mine")));
}

async fn iceberg_io(store: &Store, prefix: &Path) {
    let io = store.file_io();
    let uri = |name: &str| store.uri(&Path::from(format!("{prefix}/{name}")));
    assert!(!io.exists(uri("small")).await.expect("an answer"));
    io.new_output(uri("small")).expect("an output").write(Bytes::from_static(b"small")).await.expect("a write");
    assert!(io.exists(uri("small")).await.expect("an answer"));
    let mut writer = io.new_output(uri("big")).expect("an output").writer().await.expect("a writer");
    for byte in 0..10 {
        writer.write(vec![byte; 1 << 20].into()).await.expect("a write");
    }
    writer.close().await.expect("a file");
    let input = io.new_input(uri("big")).expect("an input");
    assert_eq!(input.metadata().await.expect("its size").size, 10 << 20);
    let reader = input.reader().await.expect("a reader");
    assert_eq!(reader.read((1 << 20) - 1..(1 << 20) + 1).await.expect("a range"), [0, 1][..]);
    assert_eq!(io.new_input(uri("small")).expect("an input").read().await.expect("a read"), "small");
    io.delete(uri("small")).await.expect("a delete");
    io.delete_prefix(store.uri(prefix)).await.expect("a delete");
    assert!(!io.exists(uri("big")).await.expect("an answer"));
}
