//! What people and scripts see: tables for eyes, JSON lines for scripts.

use std::io::Write;

use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{LineDelimited, Writer, WriterBuilder};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::exit::Failure;

/// The narrowest terminal that columns are squeezed into.
const READABLE_COLUMNS: u16 = 40;

/// One JSON document on one line of standard output.
pub(crate) fn json_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Rows as JSON objects, one a line; nulls are written.
pub(crate) fn json_rows(batch: &RecordBatch, into: &mut impl Write) -> Result<(), Failure> {
    let mut writer: Writer<_, LineDelimited> = WriterBuilder::new().with_explicit_nulls(true).build(into);
    writer.write(batch)?;
    writer.finish()?;
    Ok(())
}

/// A table as wide as the terminal allows.
pub(crate) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    // Some terminals say that they are no columns wide; a table for them is as wide as it is.
    if table.width().is_some_and(|columns| columns >= READABLE_COLUMNS) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    rows.for_each(|row| {
        table.add_row(row);
    });
    table
}

/// Batches of one schema as a table.
pub(crate) fn batch_table(batches: &[RecordBatch], header: &[&str]) -> Result<Table, Failure> {
    let options = FormatOptions::new().with_null("");
    let mut rows = Vec::new();
    for batch in batches {
        let formatters = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let formatters: Vec<_> = formatters.collect::<Result<_, _>>()?;
        rows.extend(
            (0..batch.num_rows()).map(|row| formatters.iter().map(|column| column.value(row).to_string()).collect()),
        );
    }
    Ok(table(header, rows.into_iter()))
}

/// A number with thousands apart: `101,229`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in binary units: `1.5 MiB`.
pub(crate) fn bytes(size: u64) -> String {
    indicatif::HumanBytes(size).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let texts = [0, 12, 123, 1_234, 101_229, 1_000_000].map(count);
        assert_eq!(texts, ["0", "12", "123", "1,234", "101,229", "1,000,000"]);
    }
}
