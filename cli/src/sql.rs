//! `firn sql`: one statement, or a prompt with history.

use std::path::PathBuf;

use reedline::{DefaultPrompt, DefaultPromptSegment, FileBackedHistory, Reedline, Signal, ValidationResult, Validator};

use crate::args::Sql;
use crate::client::Client;
use crate::exit::Failure;
use crate::read::print;

const HISTORY_LINES: usize = 1_000;
const HELP: &str = "\
statements end with ;  and may span lines
\\d          the topics        \\d TOPIC    its columns
\\q          leave (Ctrl-D too)  \\?          this";

/// Runs the statement, or the prompt.
pub(crate) async fn run(client: Client, args: Sql, as_json: bool) -> Result<(), Failure> {
    match args.statement {
        Some(statement) => print(client.sql(&statement).await?, as_json).await,
        None => prompt(&client, as_json).await,
    }
}

async fn prompt(client: &Client, as_json: bool) -> Result<(), Failure> {
    let mut editor = Reedline::create().with_validator(Box::new(Statements));
    if let Some(file) = history_file() {
        let history = FileBackedHistory::with_file(HISTORY_LINES, file).map_err(Failure::other)?;
        editor = editor.with_history(Box::new(history));
    }
    let prompt = DefaultPrompt::new(DefaultPromptSegment::Basic("firn".into()), DefaultPromptSegment::Empty);
    println!("\\? for help");
    loop {
        // The editor blocks; nothing else runs in this process meanwhile.
        match editor.read_line(&prompt).map_err(Failure::from)? {
            Signal::CtrlD => return Ok(()),
            Signal::Success(line) => match line.trim() {
                "" => {}
                "\\q" => return Ok(()),
                "\\?" => println!("{HELP}"),
                line => {
                    if let Err(failure) = run_line(client, line, as_json).await {
                        eprintln!("{failure}");
                    }
                }
            },
            _ => {}
        }
    }
}

async fn run_line(client: &Client, line: &str, as_json: bool) -> Result<(), Failure> {
    let statement = match line.strip_prefix("\\d").map(str::trim) {
        None => line.trim_end_matches(';').to_owned(),
        Some("") => "select table_name as topic from information_schema.tables where table_schema <> 'information_schema' order by 1".into(),
        Some(topic) => format!(
            "select column_name, data_type, is_nullable from information_schema.columns where table_name = '{}' order by ordinal_position",
            topic.replace('\'', "''")
        ),
    };
    print(client.sql(&statement).await?, as_json).await
}

/// A statement is whole when it ends with `;`, a command when its line does.
struct Statements;

impl Validator for Statements {
    fn validate(&self, line: &str) -> ValidationResult {
        let line = line.trim();
        match line.is_empty() || line.starts_with('\\') || line.ends_with(';') {
            true => ValidationResult::Complete,
            false => ValidationResult::Incomplete,
        }
    }
}

/// `FIRN_HISTORY`, or a file in the user's state folder.
fn history_file() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("FIRN_HISTORY") {
        return Some(file.into());
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("firn/history"))
}
