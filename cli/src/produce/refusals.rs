//! Where refused rows are told of: in a file, all of them; else the first few at the end, clear of the progress.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use ingest::engine::Refusal;

use crate::exit::Failure;
use crate::render::count;

/// Refused rows named on standard error; `--refusals` has them all.
const REFUSALS_SHOWN: usize = 5;

/// What is to be told of refused rows.
pub(super) struct Refusals {
    file: Option<BufWriter<File>>,
    first: Vec<Refusal>,
    count: usize,
}

impl Refusals {
    /// Into a file if one is named. Errors: usage, if it cannot be made.
    pub(super) fn into_file(path: Option<&Path>) -> Result<Self, Failure> {
        let create =
            |path: &Path| File::create(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())));
        Ok(Self { file: path.map(create).transpose()?.map(BufWriter::new), first: Vec::new(), count: 0 })
    }

    /// One more.
    pub(super) fn add(&mut self, refusal: Refusal) -> Result<(), Failure> {
        self.count += 1;
        if let Some(file) = &mut self.file {
            serde_json::to_writer(&mut *file, &refusal)?;
            file.write_all(b"\n")?;
        } else if self.first.len() < REFUSALS_SHOWN {
            self.first.push(refusal);
        }
        Ok(())
    }

    /// Those were all.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        if let Some(file) = &mut self.file {
            return Ok(file.flush()?);
        }
        for Refusal { row, reason } in &self.first {
            eprintln!("row {row}: {reason}");
        }
        if self.count > self.first.len() {
            eprintln!("… and {} more; --refusals FILE keeps them all", count((self.count - self.first.len()) as u64));
        }
        Ok(())
    }
}
