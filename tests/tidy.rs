//! Laws of the house that a compiler does not keep: which crate may know which, and what a source file owes its reader.
//!
//! Only what git tracks is judged.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The arrows of ARCHITECTURE.md: a crate of the workspace, and all others of it that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("schemas", &[]),
    ("catalog", &["schemas"]),
    ("ingest", &["schemas", "catalog"]),
    ("query", &["schemas", "catalog"]),
    ("flight", &["schemas", "catalog", "ingest", "query"]),
    ("cli", &["schemas", "catalog", "ingest", "query", "flight"]),
    ("tests", &["schemas", "catalog", "ingest", "query", "flight"]),
    ("bench", &["schemas", "catalog", "ingest", "query", "flight"]),
    ("model", &[]),
    ("simulation", &["schemas", "catalog", "ingest"]),
];

/// Foreign crates with a home: the only crates that may name them.
///
/// `cli`, `tests` and `bench` speak to a server as its clients do; `bench` also runs DataFusion as the baseline to beat.
const HOMES: &[(&str, &[&str])] = &[
    ("iceberg", &["catalog"]),
    ("datafusion", &["query", "bench"]),
    ("tonic", &["flight", "cli", "tests", "bench"]),
    ("arrow-flight", &["flight", "cli", "tests", "bench"]),
    ("axum", &["flight"]),
    ("clap", &["cli", "bench"]),
];

/// Longest source file, lines. Most should be near 150.
const FILE_LINES_MAX: usize = 600;

/// What no source file may hold, and why. Split, so that this file does not hold them either.
const BANNED: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "finish it or write an issue"),
    (concat!("FIX", "ME"), "finish it or write an issue"),
    (concat!("unimpl", "emented!("), "finish it"),
    (concat!("to", "do!("), "finish it"),
    (concat!("db", "g!("), "use tracing"),
    (concat!("unbounded_", "channel"), "every queue has a bound"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Files that git tracks and that are there, relative to the root.
fn tracked(pattern: &str) -> Vec<PathBuf> {
    let listed = run("git", &["ls-files", "--cached", "-z", "--", pattern]);
    let files: Vec<_> =
        listed.split_terminator('\0').map(PathBuf::from).filter(|file| root().join(file).exists()).collect();
    assert!(!files.is_empty(), "git tracks no {pattern}: is this a clone?");
    files
}

/// Every tracked crate of the workspace with all that its manifest names, for building and for tests alike.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let metadata: Value =
        serde_json::from_str(&run(&cargo, &["metadata", "--format-version", "1", "--no-deps", "--offline"])).unwrap();
    let tracked: Vec<_> = tracked("*Cargo.toml").into_iter().map(|file| root().join(file)).collect();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .filter(|package| tracked.contains(&PathBuf::from(package["manifest_path"].as_str().unwrap())))
        .map(|package| {
            let names = package["dependencies"].as_array().unwrap();
            let names = names.iter().map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

/// Fails with all of `faults`, one a line.
fn clean(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn crates_depend_on_each_other_only_along_the_drawn_arrows() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut faults = Vec::new();
    for (name, needs) in dependencies() {
        let Some(allowed) = arrows.get(name.as_str()) else {
            faults.push(format!("{name}: ARCHITECTURE.md draws no such crate"));
            continue;
        };
        for need in needs.iter().filter(|need| arrows.contains_key(need.as_str())) {
            if !allowed.contains(&need.as_str()) {
                faults.push(format!("{name} → {need}: no such arrow in ARCHITECTURE.md; it may depend on {allowed:?}"));
            }
        }
    }
    clean(&faults);
}

#[test]
fn foreign_crates_are_named_only_at_home() {
    let mut faults = Vec::new();
    for (name, needs) in dependencies() {
        for (foreign, homes) in HOMES {
            let named = needs
                .iter()
                .any(|need| need == foreign || need.strip_prefix(foreign).is_some_and(|rest| rest.starts_with('-')));
            if named && !homes.contains(&name.as_str()) {
                faults.push(format!("{name} names {foreign}, which only {homes:?} may"));
            }
        }
    }
    clean(&faults);
}

#[test]
fn architecture_draws_every_crate() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let faults: Vec<_> = dependencies()
        .into_keys()
        .filter(|name| !text.contains(&format!("`{name}`")))
        .map(|name| format!("{name}: not in ARCHITECTURE.md"))
        .collect();
    clean(&faults);
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut faults = Vec::new();
    // `foo/tests.rs` is what it is called.
    for file in tracked("*.rs").into_iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        let said =
            text.strip_prefix("//!").and_then(|rest| rest.lines().next()).is_some_and(|line| line.trim().len() > 10);
        if !said {
            faults.push(format!("{}: begins without `//!` and a sentence", file.display()));
        }
    }
    clean(&faults);
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut faults = Vec::new();
    for file in tracked("*.rs") {
        let lines = std::fs::read_to_string(root().join(&file)).unwrap().lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", file.display()));
        }
    }
    clean(&faults);
}

#[test]
fn nothing_is_left_unfinished_or_bound_to_one_machine() {
    let mut faults = Vec::new();
    for pattern in ["*.rs", "*.toml", "*.py", "*.java", "*.md", "*.ipynb", "Makefile", "tests/tools/*", ".ci/*"] {
        for file in tracked(pattern) {
            let text = String::from_utf8_lossy(&std::fs::read(root().join(&file)).unwrap()).into_owned();
            for (number, line) in text.lines().enumerate() {
                for (word, why) in BANNED.iter().filter(|(word, _)| line.contains(word)) {
                    faults.push(format!("{}:{}: `{word}`: {why}", file.display(), number + 1));
                }
            }
        }
    }
    clean(&faults);
}
