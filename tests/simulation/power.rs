//! A disk as it would be after a power cut: what was not synced is not there.
//!
//! An ext4 file system in a file, mounted so that it writes nothing back by itself for minutes. A copy of that file is what a machine would find that lost
//! its power at this moment; the kernel recovers it as it would a real disk's.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Bytes of the file system: the smallest with a journal.
const BYTES: u64 = 16 << 20;

/// A file system of its own. Goes when dropped; only root can have one.
#[derive(Debug)]
pub(crate) struct Disk(TempDir);

impl Disk {
    /// An empty disk. Errors: none can be mounted here: not root, no loop device, no ext4.
    pub(crate) fn attach() -> io::Result<Self> {
        let disk = Self(tempfile::Builder::new().prefix("firn-disk-").tempdir()?);
        std::fs::File::create(disk.image())?.set_len(BYTES)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.image()))?;
        disk.mount()?;
        Ok(disk)
    }

    /// The disk that is left if the power goes now.
    pub(crate) fn after_a_power_cut(&self) -> io::Result<Self> {
        let disk = Self(tempfile::Builder::new().prefix("firn-disk-").tempdir()?);
        std::fs::copy(self.image(), disk.image())?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("mounted")
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("image")
    }

    fn mount(&self) -> io::Result<()> {
        std::fs::create_dir(self.path())?;
        run(Command::new("mount")
            .args(["-o", "loop,commit=600"])
            .args([self.image().as_path(), Path::new(&self.path())]))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.path()).output());
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))))
}
