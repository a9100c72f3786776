use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

fn open(root: &Path) -> LocalFolder {
    LocalFolder::open(root, &crate::Env::system().uuid().to_string()).unwrap()
}

fn path() -> ObjectPath {
    ObjectPath::from("lanes/0/root.json")
}

async fn newest(folder: &LocalFolder) -> (String, String) {
    let held = folder.newest(&path()).await.unwrap().expect("a revision");
    (held.tag.0, String::from_utf8(held.document.to_vec()).unwrap())
}

/// Puts `last` revisions one after the other, each its own number.
async fn put_all(folder: &LocalFolder, last: u64) {
    for number in 1..=last {
        let expected = (number > 1).then(|| RevisionTag((number - 1).to_string()));
        folder.put_next(&path(), expected.as_ref(), number.to_string().into()).await.unwrap();
    }
}

fn file_of(root: &tempfile::TempDir, number: u64) -> PathBuf {
    revision(&root.path().join(path().as_ref()), number)
}

proptest! {
    #[test]
    fn the_highest_number_is_found_from_any_that_exists(top in 0..100_000u64, at: prop::sample::Index) {
        let known = at.index(top as usize + 1) as u64;
        let mut asked = 0;
        let asked_for = std::cell::RefCell::new(&mut asked);
        let found = highest(known, |number| {
            **asked_for.borrow_mut() += 1;
            Ok::<_, Infallible>(number <= top)
        });
        prop_assert_eq!(found, Ok(top));
        prop_assert!(asked <= 2 * (top - known + 2).ilog2() + 2, "{} questions for {}", asked, top - known);
    }
}

#[tokio::test]
async fn a_superseded_revision_stays_as_an_empty_file_and_its_number_is_never_free() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path());
    put_all(&folder, 5).await;
    for number in 1..5 {
        assert_eq!(std::fs::metadata(file_of(&root, number)).unwrap().len(), 0, "revision {number}");
        // A process that slept since it read the revision before.
        let expected = RevisionTag((number - 1).to_string());
        let late = folder.put_next(&path(), (number > 1).then_some(&expected), "late".into()).await.unwrap_err();
        assert!(matches!(late, object_store::Error::AlreadyExists { .. }), "{late}");
    }
    assert_eq!(newest(&open(root.path())).await, ("5".into(), "5".into()));
}

#[tokio::test]
async fn a_process_that_remembers_an_old_revision_finds_the_newest() {
    let root = tempfile::tempdir().unwrap();
    let (sleeper, other) = (open(root.path()), open(root.path()));
    put_all(&sleeper, 1).await;
    assert_eq!(newest(&sleeper).await.0, "1");
    for number in 1..40 {
        let expected = RevisionTag(number.to_string());
        other.put_next(&path(), Some(&expected), (number + 1).to_string().into()).await.unwrap();
    }
    assert_eq!(newest(&sleeper).await, ("40".into(), "40".into()));
}

#[tokio::test]
async fn a_crash_before_the_old_revision_was_emptied_does_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path());
    put_all(&folder, 3).await;
    std::fs::write(file_of(&root, 2), "2").unwrap();
    assert_eq!(newest(&open(root.path())).await, ("3".into(), "3".into()));
    std::fs::write(file_of(&root, 1), "1").unwrap();
    assert_eq!(newest(&open(root.path())).await, ("3".into(), "3".into()));
}

#[tokio::test]
async fn an_empty_revision_that_none_stands_above_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path());
    put_all(&folder, 2).await;
    std::fs::write(file_of(&root, 2), "").unwrap();
    for folder in [folder, open(root.path())] {
        let error = crate::storage::register::read(&folder, &path()).await.unwrap_err();
        assert_eq!(error.kind(), schemas::ErrorKind::Corrupt, "{error}");
    }
}

/// These files lie in users' folders: under other names or contents an older process would not see a newer one's claim.
#[tokio::test]
async fn the_row_of_files_stays_what_it_is() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path());
    put_all(&folder, 3).await;
    let row = std::fs::read_dir(root.path().join("lanes/0/root.json")).unwrap().map(|entry| entry.unwrap());
    let mut row: Vec<_> = row
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .collect();
    row.sort();
    let expected = [("0000000001.json", ""), ("0000000002.json", ""), ("0000000003.json", "3")];
    assert_eq!(row, expected.map(|(name, content)| (name.to_owned(), content.to_owned())));
}
