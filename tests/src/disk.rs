//! A disk whose power can be cut: what was not synced is gone, as on a real one.
//!
//! An ext4 file system on a loop device, mounted so that it writes nothing back by itself for minutes. The cut is the kernel's own (`EXT4_IOC_SHUTDOWN`
//! without flushing the journal, which file system developers use for just this): from then on every call fails, and the next mount finds what
//! a machine would find that lost its power at that moment.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::tools::tool;

/// The ioctl, called from Python since nothing here may be unsafe: `_IOR('X', 125, u32)`, flag 2 = the journal is not flushed.
const CUT: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// A file system of its own. Goes when dropped; only root can have one.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
    python: PathBuf,
}

impl Disk {
    /// An empty disk. `None` where none can be mounted: not root, no loop device, no ext4.
    pub fn attach(megabytes: u64) -> Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("firn-disk-").tempdir()?;
        let disk = Self { folder, python: tool("venv")?.join("bin/python") };
        std::fs::File::create(disk.image())?.set_len(megabytes << 20)?;
        std::fs::create_dir(disk.path())?;
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.image()).status();
        Ok((made.is_ok_and(|status| status.success()) && disk.mount().is_ok()).then_some(disk))
    }

    /// Where its files are.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// Cuts the power. What was not synced by now is lost, and every access fails until [`Self::restore`].
    pub fn cut_power(&self) -> Result<()> {
        run(Command::new(&self.python).args(["-c", CUT]).arg(self.path()))
    }

    /// Power is back: the file system recovers. Every process that had files open here must have ended.
    pub fn restore(&self) -> Result<()> {
        run(Command::new("umount").arg(self.path()))?;
        self.mount()
    }

    /// Makes all that is there durable.
    pub fn sync(&self) -> Result<()> {
        run(Command::new("sync").arg("--file-system").arg(self.path()))
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount(&self) -> Result<()> {
        let [image, path] = [self.image(), self.path()];
        run(Command::new("mount").args(["-o", "loop,commit=600"]).args([&image, &path]))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
