//! Where in a batch a value lies: for messages, and to find the row that a nested value belongs to.

use std::collections::BTreeMap;

use arrow::buffer::NullBuffer;
use schemas::SchemaError;

/// Why rows are refused, one reason a row: the first that was found.
#[derive(Debug, Default)]
pub(super) struct Faults {
    reasons: BTreeMap<usize, String>,
}

impl Faults {
    /// Notes a reason, unless the row has one already.
    pub(super) fn add(&mut self, row: usize, reason: impl FnOnce() -> String) {
        self.reasons.entry(row).or_insert_with(reason);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    pub(super) fn contains(&self, row: usize) -> bool {
        self.reasons.contains_key(&row)
    }

    /// Ascending by row.
    pub(super) fn into_reasons(self) -> BTreeMap<usize, String> {
        self.reasons
    }
}

/// A column, or one inside it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    name: &'a str,
    parent: Option<&'a Place<'a>>,
    slots: Slots<'a>,
}

/// How the slots of an array follow from those of its parent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slots<'a> {
    /// A column of the batch: slots are rows.
    Rows,
    /// A member of a struct with these nulls: slots are the struct's.
    Members(Option<&'a NullBuffer>),
    /// Elements of lists or maps with these offsets and nulls.
    Elements(&'a [i32], Option<&'a NullBuffer>),
}

impl<'a> Place<'a> {
    /// The column or member `name` of `parent`.
    pub(super) fn new(name: &'a str, parent: Option<&'a Place<'a>>, slots: Slots<'a>) -> Self {
        Self { name, parent, slots }
    }

    /// The row that a slot belongs to; `None` for what Arrow keeps but nobody sees: values under a null, elements that no list contains.
    pub(super) fn row_of(&self, slot: usize) -> Option<usize> {
        let (slot, nulls) = match &self.slots {
            Slots::Rows => return Some(slot),
            Slots::Members(nulls) => (slot, nulls),
            Slots::Elements(offsets, nulls) => {
                let lists = offsets.len() - 1;
                let list = offsets.partition_point(|offset| *offset as usize <= slot).checked_sub(1)?;
                (Some(list).filter(|list| *list < lists)?, nulls)
            }
        };
        let visible = nulls.is_none_or(|nulls| nulls.is_valid(slot));
        self.parent.filter(|_| visible)?.row_of(slot)
    }

    /// An error about the column as a whole.
    pub(super) fn error(&self, reason: impl AsRef<str>) -> SchemaError {
        SchemaError::Batch(format!("column {self}: {}", reason.as_ref()))
    }
}

impl std::fmt::Display for Place<'_> {
    /// The dotted name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.parent {
            Some(parent) => write!(f, "{parent}.{}", self.name),
            None => f.write_str(self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_slot_knows_its_row_and_what_nobody_sees_has_none() {
        let nulls = NullBuffer::from(vec![true, true, false, true]);
        let list = Place::new("items", None, Slots::Rows);
        let element = Place::new("element", Some(&list), Slots::Elements(&[2, 4, 4, 6, 7], Some(&nulls)));
        let rows: Vec<_> = (0..9).map(|slot| element.row_of(slot)).collect();
        assert_eq!(rows, [None, None, Some(0), Some(0), None, None, Some(3), None, None]);
        let hidden = NullBuffer::from(vec![true, true, false, true, true, true, true]);
        let member = Place::new("price", Some(&element), Slots::Members(Some(&hidden)));
        assert_eq!((member.row_of(2), member.row_of(3)), (None, Some(0)));
        assert_eq!(member.to_string(), "items.element.price");
    }
}
