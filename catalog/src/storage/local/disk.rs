//! Files that stay: the few durable operations that everything on a local folder is made of. Blocking.
//!
//! A file is written under a temporary name and fsynced, then linked (or renamed) to its place, then its folder is fsynced; only then
//! does it count. A name that this process has not seen before is trusted only after an fsync of its folder: its writer may
//! still be waiting for its own, and a power failure would take back what a reader has already passed on.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use schemas::planted::{Bug, planted};

use super::scratch::{Scratch, Temporary};
use super::seen::Seen;

/// Most folders whose handles are kept open.
const FOLDERS_OPEN_MAX: usize = 256;

/// One folder tree, as this process uses it. No lock is held across I/O.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// `None` if nothing may be written.
    scratch: Option<Scratch>,
    /// Folders that exist durably, their parents too, each with the handle that fsyncs it.
    folders: Mutex<HashMap<PathBuf, Arc<File>>>,
    /// Names that were fsynced since they came to be.
    seen: Mutex<Seen>,
}

/// Why a file did not get to its place.
#[derive(Debug)]
pub(super) enum PlaceError {
    /// The name is taken; nothing happened.
    Taken,
    /// Nothing happened.
    Unplaced(io::Error),
    /// The file is in its place, but may not be there after a power failure.
    InDoubt(io::Error),
}

impl From<io::Error> for PlaceError {
    fn from(error: io::Error) -> Self {
        Self::Unplaced(error)
    }
}

impl Disk {
    /// Opens `root`, making it if it is absent. `id` names this process's temporary files: no other process has it.
    pub(super) fn open(root: &Path, id: &str) -> io::Result<Self> {
        make_durably(root)?;
        let root = fs::canonicalize(root)?;
        let scratch = Scratch::open(&root, id)?;
        Ok(Self { root, scratch: Some(scratch), folders: Mutex::default(), seen: Mutex::default() })
    }

    /// Opens `root`, which must be there, without a place for files that have no name yet: nothing can be written.
    pub(super) fn open_read_only(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        Ok(Self { root, scratch: None, folders: Mutex::default(), seen: Mutex::default() })
    }

    /// The absolute, canonical path of the root.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// An empty file that has no name yet.
    pub(super) fn temporary(&self) -> io::Result<Temporary> {
        let refused = || io::Error::new(ErrorKind::ReadOnlyFilesystem, "the folder was opened for looking only");
        self.scratch.as_ref().ok_or_else(refused)?.create()
    }

    /// A file with these contents that has no name yet. Not fsynced: placing does that.
    pub(super) fn written<'a>(&self, chunks: impl IntoIterator<Item = &'a Bytes>) -> io::Result<Temporary> {
        let temporary = self.temporary()?;
        for chunk in chunks {
            (&mut &temporary.file).write_all(chunk)?;
        }
        Ok(temporary)
    }

    /// Gives a file its name, durably, if the name is free.
    pub(super) fn place_new(&self, temporary: Temporary, name: &Path) -> Result<Metadata, PlaceError> {
        self.place(&temporary, name, |from, to| match fs::hard_link(from, to) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(PlaceError::Taken),
            done => Ok(done?),
        })
    }

    /// Gives a file its name, durably, whatever bore it before.
    pub(super) fn place_over(&self, temporary: Temporary, name: &Path) -> Result<Metadata, PlaceError> {
        self.place(&temporary, name, |from, to| Ok(fs::rename(from, to)?))
    }

    /// Replaces a file by an empty one. Not fsynced: after a power failure either may be there.
    pub(super) fn make_empty(&self, name: &Path) -> io::Result<()> {
        fs::rename(&self.temporary()?.path, name)
    }

    /// Opens a file whose name will outlast a power failure. `NotFound` also for a folder.
    pub(super) fn open_file(&self, name: &Path) -> io::Result<(File, Metadata)> {
        let file = File::open(name)?;
        let stat = file.metadata()?;
        if stat.is_dir() {
            return Err(io::Error::new(ErrorKind::NotFound, "a folder, not a file"));
        }
        let identity = Seen::identity(name, &stat);
        let known = self.seen.lock().contains(identity);
        if !known {
            self.folder(parent(name)?)?.sync_all()?;
            self.seen.lock().insert(identity);
        }
        Ok((file, stat))
    }

    /// Removes a folder and all that is in it.
    pub(super) fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        self.folders.lock().retain(|known, _| !known.starts_with(folder));
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn place(
        &self,
        temporary: &Temporary,
        name: &Path,
        give: impl Fn(&Path, &Path) -> Result<(), PlaceError>,
    ) -> Result<Metadata, PlaceError> {
        let sync = |file: &File| if planted(Bug::PutWithoutSync) { Ok(()) } else { file.sync_all() };
        sync(&temporary.file)?;
        let stat = temporary.file.metadata()?;
        let mut folder = self.folder(parent(name)?)?;
        match give(&temporary.path, name) {
            // Someone removed the folder, or one above it, since this process made sure of it.
            Err(PlaceError::Unplaced(error)) if error.kind() == ErrorKind::NotFound => {
                self.folders.lock().clear();
                folder = self.folder(parent(name)?)?;
                give(&temporary.path, name)?;
            }
            done => done?,
        }
        sync(&folder).map_err(PlaceError::InDoubt)?;
        self.seen.lock().insert(Seen::identity(name, &stat));
        Ok(stat)
    }

    /// A folder that exists durably, made if need be, with all its parents below the root.
    fn folder(&self, folder: &Path) -> io::Result<Arc<File>> {
        let known = self.folders.lock().get(folder).cloned();
        if let Some(handle) = known {
            // A handle on a removed folder would fsync what nobody sees.
            if handle.metadata()?.nlink() > 0 {
                return Ok(handle);
            }
        }
        if folder != self.root {
            let above = self.folder(parent(folder)?)?;
            make(folder)?;
            // Even if it was there: whoever made it may not have come to its fsync.
            above.sync_all()?;
        }
        let handle = Arc::new(File::open(folder)?);
        let mut folders = self.folders.lock();
        if folders.len() >= FOLDERS_OPEN_MAX {
            folders.clear();
        }
        folders.insert(folder.to_owned(), Arc::clone(&handle));
        Ok(handle)
    }
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "expected a path below the root"))
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Makes the root and what is missing above it, each entry fsynced.
fn make_durably(root: &Path) -> io::Result<()> {
    let root = std::path::absolute(root)?;
    let missing: Vec<_> = root.ancestors().take_while(|folder| !folder.exists()).collect();
    if let Some(above) = root.ancestors().nth(missing.len()).and_then(Path::parent) {
        // What is there may have been made a moment ago, by a process that has not come to its fsync. An operator's mount point may lie
        // in a folder that this process must not open, and needs no fsync.
        let _ = File::open(above).and_then(|folder| folder.sync_all());
    }
    for folder in missing.into_iter().rev() {
        make(folder)?;
        File::open(parent(folder)?)?.sync_all()?;
    }
    Ok(())
}
