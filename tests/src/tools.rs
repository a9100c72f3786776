//! Pinned tools from outside Cargo (`tests/tools/install`), and free ports for them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// Where a pinned tool lies; installed first if it is not there yet.
///
/// Errors: the installer's own words, if it failed.
pub fn tool(name: &str) -> Result<PathBuf> {
    let installer = repository().join("tests/tools/install");
    let output =
        Command::new(&installer).arg(name).output().with_context(|| format!("cannot run {}", installer.display()))?;
    if !output.status.success() {
        bail!("{} {name} failed:\n{}", installer.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
