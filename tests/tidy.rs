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

/// The document that names a test for each fault and each anomaly.
const FAULTS: &str = "tests/FAULTS.md";
/// The faults of the simulation.
const SIMULATED: &str = "tests/simulation/faults.rs";
/// Where a crate's modules lie, if not in `{crate}/src`.
const SOURCES: &[(&str, &str)] = &[("system", "tests/system"), ("model", "tests/model/src")];

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

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of all tables of a document, heads and rules apart, cell by cell.
fn table_rows(text: &str) -> Vec<Vec<&str>> {
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let is_rule = |row: &Vec<&str>| row.iter().all(|cell| cell.chars().all(|c| c == '-'));
    let rules: Vec<_> = rows.iter().enumerate().filter(|(_, row)| is_rule(row)).map(|(place, _)| place).collect();
    let is_row = |place: &usize| !rules.contains(place) && !rules.contains(&(place + 1));
    (0..rows.len()).filter(is_row).map(|place| rows[place].clone()).collect()
}

/// True if there is a test with this path: crate, modules, some of which may lie inside a file, name.
fn is_test(path: &str) -> bool {
    let parts: Vec<_> = path.split("::").collect();
    let [krate, modules @ .., name] = parts.as_slice() else { return false };
    let source =
        SOURCES.iter().find(|(known, _)| known == krate).map_or(format!("{krate}/src"), |(_, at)| (*at).into());
    (0..=modules.len()).any(|outside| {
        let folder = root().join(&source).join(modules[..outside].join("/"));
        let files = match outside {
            0 => vec![folder.join("lib.rs"), folder.join("main.rs")],
            _ => vec![folder.with_extension("rs"), folder.join("mod.rs")],
        };
        let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
        let is_inside =
            |text: &String| modules[outside..].iter().all(|inner| text.contains(&format!("mod {inner} {{")));
        texts.filter(is_inside).any(|text| has_test(&text, name))
    })
}

/// True if the text has a function of this name, and the nearest attribute before it makes it a test.
fn has_test(text: &str, name: &str) -> bool {
    let Some(place) = text.find(&format!("fn {name}(")) else { return false };
    let attribute = text[..place].rfind("#[test]").max(text[..place].rfind("#[tokio::test"));
    // Nothing but the attribute's own line, others, and `async` lie between.
    attribute
        .is_some_and(|from| text[from..place].lines().skip(1).all(|line| matches!(line.trim(), "" | "async" | "pub")))
}

#[test]
fn each_fault_and_each_anomaly_has_a_test_that_exists() {
    let document = std::fs::read_to_string(root().join(FAULTS)).unwrap();
    let mut faults = Vec::new();
    for row in table_rows(&document) {
        let tests: Vec<_> = quoted(row[1]).collect();
        if tests.is_empty() {
            faults.push(format!("{FAULTS}: {:?} names no test", row[0]));
        }
        faults.extend(
            tests.iter().filter(|test| !is_test(test)).map(|test| format!("{FAULTS}: there is no test {test}")),
        );
    }
    assert!(is_test("system::crash::nothing_acknowledged_is_lost_or_doubled_by_kills_on_s3"));
    assert!(!is_test("system::crash::kills") && !is_test("ingest::engine::nothing"), "not everything is a test");
    clean(&faults);
}

#[test]
fn each_fault_of_the_simulation_has_its_row() {
    let document = std::fs::read_to_string(root().join(FAULTS)).unwrap();
    let source = std::fs::read_to_string(root().join(SIMULATED)).unwrap();
    let kinds = source.split_once("pub(crate) enum Fault {").unwrap().1.split_once("\n}").unwrap().0;
    let kinds: Vec<_> =
        kinds.lines().filter_map(|line| line.trim().strip_suffix(',')).filter(|name| !name.starts_with("//")).collect();
    let rows = table_rows(&document);
    let named: Vec<_> = rows.iter().filter_map(|row| row.get(2)).flat_map(|cell| quoted(cell)).collect();
    let mut faults = Vec::new();
    faults.extend(kinds.iter().filter(|kind| !named.contains(kind)).map(|kind| format!("{FAULTS}: no row for {kind}")));
    faults.extend(named.iter().filter(|kind| !kinds.contains(kind)).map(|kind| format!("{SIMULATED}: no {kind}")));
    assert!(kinds.len() > 10, "{kinds:?}");
    clean(&faults);
}
