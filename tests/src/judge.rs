//! Other engines as judges: Python and Java programs under `tests/judges` that answer in JSON.

use std::path::PathBuf;
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
    let mut command = Command::new(tool("venv")?.join("bin/python"));
    command.arg(script(&format!("{name}.py"))).args(arguments).envs(environment.iter().copied());
    if name == "spark" {
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
