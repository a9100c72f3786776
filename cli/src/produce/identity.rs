//! Who the load is: a name that the same input has again, and an epoch for it.
//!
//! The server remembers how far each name came. A load that is run again under its name goes on there, so it ends complete and free of duplicates,
//! however often it was interrupted.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use flight::actions::BeginProducer;
use ingest::engine::ProducerEpoch;
use schemas::TopicName;
use xxhash_rust::xxh3::Xxh3;

use crate::args::Produce;
use crate::client::Client;
use crate::exit::Failure;

/// Bytes of a file's beginning, and of its end, that its name is made of.
const HASHED_BYTES: u64 = 1 << 20;
/// Bytes of a file's name that its producer's name begins with.
const LABEL_BYTES_MAX: usize = 80;

/// A producer with its epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its name.
    pub(super) name: String,
    /// The epoch of this run.
    pub(super) epoch: u64,
    /// Batches below this number were appended by an earlier run.
    pub(super) next: u64,
}

impl Identity {
    /// Asks the server for an epoch, which fences every earlier run of the same name; `None` if none is wanted.
    pub(super) async fn take(client: &Client, topic: &TopicName, args: &Produce) -> Result<Option<Self>, Failure> {
        if args.no_producer {
            return Ok(None);
        }
        let name = match &args.producer {
            Some(name) => name.clone(),
            None => derived(args)?,
        };
        let (resume, since_ms) = (!args.start_over, existed_since(&args.file));
        let begin = BeginProducer { topic: topic.clone(), producer: name.clone(), resume, since_ms };
        let begun: Result<ProducerEpoch, Failure> = client.action_one("producer", &begin).await;
        let begun = begun.map_err(|failure| match failure.is_unfulfilled() {
            true => failure.with_hint("the rest can be appended as another file, or all of it again with --start-over"),
            false => failure,
        })?;
        Ok(Some(Self { name, epoch: begun.producer_epoch, next: begun.next_producer_seq }))
    }

    /// The first batch to send. The last one of an earlier run is sent again: the server knows it by its content, and refuses another input.
    pub(super) fn from(&self) -> u64 {
        self.next.saturating_sub(1).max(1)
    }
}

/// When the input was written, milliseconds since 1970: no earlier load can have had it. `None` if that is not known.
fn existed_since(file: &Path) -> Option<i64> {
    let written = file.metadata().ok().filter(std::fs::Metadata::is_file)?.modified().ok()?;
    written.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis().try_into().ok()
}

/// A name for this input cut into batches in this way. Standard input has no name that would come again.
fn derived(args: &Produce) -> Result<String, Failure> {
    let fault = |error: std::io::Error| Failure::usage(format!("{}: {error}", args.file.display()));
    if !args.file.is_file() {
        let run = catalog::Env::system().uuid().simple();
        return Ok(format!("run-{run}"));
    }
    let mut hash = Xxh3::new();
    let cut = format!("{:?} {} {:?}", args.format, args.batch_rows, args.on_error);
    hash.update(cut.as_bytes());
    hash_ends(&args.file, &mut hash).map_err(fault)?;
    let file = args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |bytes: &mut usize, c: char| {
        *bytes += c.len_utf8();
        (*bytes <= LABEL_BYTES_MAX).then_some(c)
    };
    let label: String = file.chars().scan(0, fits).collect();
    Ok(format!("{label}-{:032x}", hash.digest128()))
}

/// A file's length, beginning and end.
fn hash_ends(path: &Path, hash: &mut Xxh3) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    hash.update(&length.to_le_bytes());
    for start in [0, length.saturating_sub(HASHED_BYTES)] {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.by_ref().take(HASHED_BYTES).read_to_end(&mut bytes)?;
        hash.update(&bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn args(line: &[&str]) -> Produce {
        let line = ["firn", "produce", "t"].iter().chain(line);
        match Args::try_parse_from(line).expect("parses").command {
            Command::Produce(produce) => produce,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_input_cut_in_the_same_way_has_the_same_name_and_any_other_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.display().to_string()
        };
        let (one, two) = (path("a.ndjson", b"{}\n{}\n"), path("b.ndjson", b"{}\n{ }\n"));
        let name = |line: &[&str]| derived(&args(line)).unwrap();
        assert_eq!(name(&[&one]), name(&[&one]));
        assert!(name(&[&one]).starts_with("a.ndjson-"), "{}", name(&[&one]));
        let names = [name(&[&one]), name(&[&two]), name(&[&one, "--batch-rows", "7"]), name(&["-"]), name(&["-"])];
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{names:?}");
            assert!(name.len() <= schemas::limits::NAME_BYTES_MAX, "{name}");
        }
    }

    #[test]
    fn a_long_file_name_is_cut_at_a_character() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{}.csv", "ö".repeat(100)));
        std::fs::write(&path, b"a\n").unwrap();
        let name = derived(&args(&[path.to_str().unwrap()])).unwrap();
        assert!(name.len() <= schemas::limits::NAME_BYTES_MAX, "{name}");
    }
}
