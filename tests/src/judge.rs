//! Other engines as judges: Python and Java programs under `tests/judges` that answer in JSON.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::tools::{repository, tool};

/// Runs `tests/judges/{name}.py` with the pinned packages; its last line of output is its verdict in JSON.
///
/// Errors: with all that it wrote, if it failed.
pub async fn python(name: &str, arguments: &[&str]) -> Result<Value> {
    python_with(name, arguments, &[]).await
}

/// The same with further environment variables.
pub async fn python_with(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Value> {
    let packages = if name.ends_with("duckdb") { "duckdb" } else { "venv" };
    let mut command = Command::new(tool(packages)?.join("bin/python"));
    command.arg(script(&format!("{name}.py"))).args(arguments).envs(environment.iter().copied());
    if name.ends_with("spark") || arguments.first() == Some(&"spark") {
        command.env("FIRN_JARS", tool("jars")?);
    }
    verdict(command).await
}

/// Runs `tests/judges/{name}.java` against the Flight SQL JDBC driver.
pub async fn java(name: &str, arguments: &[&str]) -> Result<Value> {
    let jars = tool("jars")?;
    let driver = std::fs::read_dir(&jars)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("jdbc")))
        .context("the JDBC driver is not among the jars")?;
    let mut command = Command::new("java");
    command.args(["--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp"]).arg(driver);
    command.arg(script(&format!("{name}.java"))).args(arguments);
    verdict(command).await
}

/// Runs the REST compatibility kit of the Iceberg project against a catalog; all that it says. `places` is a folder among those of users' tables.
///
/// Errors: with all that it said, if a test of it failed or it could not run.
pub async fn compatibility_kit(uri: &str, places: &Path) -> Result<String> {
    let jars = std::fs::read_dir(tool("rck")?)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    // The console's own copy of JUnit before the one inside the kit.
    let (console, kit): (Vec<_>, Vec<_>) =
        jars.into_iter().partition(|path| path.to_string_lossy().contains("console-standalone"));
    let classes = std::env::join_paths(console.into_iter().chain(kit))?;
    let mut command = Command::new("java");
    // Tests of it that ask for a place to keep metadata at are given one that the catalog writes to.
    command.arg(format!("-Djava.io.tmpdir={}", places.display())).arg("-Drck.requires-namespace-create=true");
    command.arg("-Drck.supports-names-with-dot=true");
    command.arg(format!("-Duri={uri}")).arg("-cp").arg(classes).arg("org.junit.platform.console.ConsoleLauncher");
    command.args([
        "execute",
        "--disable-banner",
        "--disable-ansi-colors",
        "--details=tree",
        "--config=rck.local=false",
    ]);
    for class in ["RESTCompatibilityKitCatalogTests", "RESTCompatibilityKitViewCatalogTests"] {
        command.arg(format!("--select-class=org.apache.iceberg.rest.{class}"));
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("the kit ended with {}:\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}

fn script(file: &str) -> PathBuf {
    repository().join("tests/judges").join(file)
}

async fn verdict(mut command: Command) -> Result<Value> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{command:?} ended with {}:\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).context("the judge said nothing")?;
    serde_json::from_str(last).with_context(|| format!("the judge's last line is not JSON: {last}"))
}
