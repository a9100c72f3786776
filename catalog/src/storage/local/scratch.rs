//! Files that have no name yet: each process writes them into a folder of its own under `.tmp`.
//!
//! A process holds an advisory lock on its folder for as long as it lives. Whoever opens the store later tries the locks of the others, without
//! waiting: what it gets belonged to a dead process, and is removed. Nothing depends on this but disk space: a process whose temporary
//! file is gone fails to place it, and writes it again.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The folder of temporary files, right under the root; no object may lie in it.
pub(super) const SCRATCH: &str = ".tmp";

/// Attempts at making a folder that another store is not just cleaning away.
const ATTEMPTS_MAX: usize = 16;

/// This process's folder of temporary files.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    next: AtomicU64,
    /// Held, not read: closing it ends the lock.
    _lock: File,
}

/// A file on its way to a name. Its temporary name goes when this does.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Scratch {
    /// Makes `.tmp/{id}…` under `root`, and removes what dead processes left beside it.
    pub(super) fn open(root: &Path, id: &str) -> io::Result<Self> {
        let all = root.join(SCRATCH);
        for attempt in 0..ATTEMPTS_MAX {
            let folder = all.join(format!("{id}-{attempt}"));
            fs::create_dir_all(&folder)?;
            if let Some(lock) = take(&folder)? {
                remove_dead(&all, &folder)?;
                return Ok(Self { folder, next: AtomicU64::new(0), _lock: lock });
            }
        }
        Err(io::Error::new(ErrorKind::ResourceBusy, format!("{} is being cleaned too often", all.display())))
    }

    /// A new, empty file.
    pub(super) fn create(&self) -> io::Result<Temporary> {
        let path = self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let create = || File::options().write(true).create_new(true).open(&path);
        let file = match create() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&self.folder)?;
                create()?
            }
            created => created?,
        };
        Ok(Temporary { path, file })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Fails while a temporary file is still in use; the next to open the store finds it.
        let _ = fs::remove_dir(&self.folder);
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Absent if it was renamed to its place.
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks a folder just made; `None` if a store that opened at the same moment took it for a dead process's, and removes it.
fn take(folder: &Path) -> io::Result<Option<File>> {
    let lock = match File::open(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        Ok(()) => Ok((lock.metadata()?.nlink() > 0).then_some(lock)),
        // This file system has no locks: nobody gets one, and nobody removes anything.
        Err(TryLockError::Error(_)) => Ok(Some(lock)),
    }
}

/// Removes the folders of dead processes. What cannot be looked at or removed is left to the next.
fn remove_dead(all: &Path, own: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if path == own {
            continue;
        }
        if File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok() && fs::remove_dir_all(&path).is_ok()) {
            tracing::debug!(folder = %path.display(), "removed the temporary files of a process that is gone");
        }
    }
    Ok(())
}
