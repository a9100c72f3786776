//! `_path` and `_prefix`: an event's place in the topic hierarchy, built from payload fields by the topic's path template.
//!
//! A template is levels separated by `/`: the topic's name first, then literals or `{field}`. A field's value is its canonical text
//! (`text`) with `/ % * > !` percent-encoded; null or empty is the level `-`, and a real `-` is `%2D`, so that nothing collides.

use std::fmt;

use arrow::array::{Array, ArrayRef, StringArray};
use serde::{Deserialize, Serialize};

use crate::error::SchemaError;
use crate::ids::TopicName;
use crate::key::{Derived, Fault, column, escape, offset};
use crate::limits;
use crate::payload::PayloadSchema;
use crate::text::TextField;

/// The level that stands for a null or empty value.
pub const EMPTY_LEVEL: &str = "-";
/// Bytes that are percent-encoded inside a value.
const SPECIAL: &[u8] = b"/%*>!";

/// A topic's path template, parsed. Its text form in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathTemplate {
    levels: Vec<Level>,
}

/// One level of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    /// Itself.
    Literal(String),
    /// The value of a payload field (dotted name).
    Field(String),
}

impl PathTemplate {
    /// The template of a topic that has none: its name alone.
    pub fn of_name(name: &TopicName) -> Self {
        Self { levels: vec![Level::Literal(name.as_str().to_owned())] }
    }

    /// Parses a template. Errors: [`SchemaError::Option`] naming `path`.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let fault = |reason: String| SchemaError::Option { option: "path", reason };
        let levels = text.split('/').map(|level| Level::parse(level).map_err(fault)).collect::<Result<Vec<_>, _>>()?;
        if levels.len() > limits::PATH_LEVELS_MAX {
            return Err(fault(format!("expected at most {} levels, found {}", limits::PATH_LEVELS_MAX, levels.len())));
        }
        Ok(Self { levels })
    }

    /// How many levels it has, at least 1.
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// Never: a template has at least one level.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The payload fields that it names, in order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter_map(|level| match level {
            Level::Field(name) => Some(name.as_str()),
            Level::Literal(_) => None,
        })
    }

    /// The same levels with other names of its fields.
    pub(crate) fn renamed(&self, rename: impl Fn(&str) -> String) -> Self {
        let level = |level: &Level| match level {
            Level::Field(name) => Level::Field(rename(name)),
            Level::Literal(_) => level.clone(),
        };
        Self { levels: self.levels.iter().map(level).collect() }
    }

    /// True if the first level is this topic's name, literally.
    pub fn begins_with(&self, name: &TopicName) -> bool {
        matches!(&self.levels[0], Level::Literal(first) if first == name.as_str())
    }
}

impl Level {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return match name.is_empty() || name.contains(['{', '}']) {
                true => Err(format!("expected a field's name in {text:?}")),
                false => Ok(Self::Field(name.to_owned())),
            };
        }
        if text.is_empty()
            || text == EMPTY_LEVEL
            || text.bytes().any(|byte| SPECIAL.contains(&byte) || b"{}".contains(&byte))
        {
            return Err(format!("expected a level such as orders or {{field}}, found {text:?}"));
        }
        Ok(Self::Literal(text.to_owned()))
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, level) in self.levels.iter().enumerate() {
            let slash = if at == 0 { "" } else { "/" };
            match level {
                Level::Literal(text) => write!(f, "{slash}{text}")?,
                Level::Field(name) => write!(f, "{slash}{{{name}}}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for PathTemplate {
    type Error = SchemaError;
    fn try_from(text: String) -> Result<Self, SchemaError> {
        Self::parse(&text)
    }
}

impl From<PathTemplate> for String {
    fn from(template: PathTemplate) -> Self {
        template.to_string()
    }
}

/// How to derive the path and prefix of a topic's events. Made once a schema version.
#[derive(Clone, Debug)]
pub struct PathRule {
    levels: Vec<Source>,
    prefix_levels: usize,
}

#[derive(Clone, Debug)]
enum Source {
    Literal(String),
    Field(TextField),
}

/// Derived `_path` and `_prefix`.
#[derive(Clone, Debug)]
pub struct DerivedPaths {
    /// `_path`; `faults` are rows whose path is too long.
    pub paths: Derived,
    /// The leading levels of each path, before the bound on distinct prefixes is applied. Shares the paths' buffers if that is all of them.
    pub prefixes: StringArray,
}

impl PathRule {
    /// Errors: [`SchemaError::Option`] naming `path` or `prefix_levels`.
    pub fn new(payload: &PayloadSchema, template: &PathTemplate, prefix_levels: usize) -> Result<Self, SchemaError> {
        if prefix_levels == 0 || prefix_levels > template.len() {
            let reason = format!("expected 1 to {}, the levels of {template}, found {prefix_levels}", template.len());
            return Err(SchemaError::Option { option: "prefix_levels", reason });
        }
        let source = |level: &Level| match level {
            Level::Literal(text) => Ok(Source::Literal(text.clone())),
            Level::Field(name) => TextField::new(payload, name, "path").map(Source::Field),
        };
        Ok(Self { levels: template.levels.iter().map(source).collect::<Result<_, _>>()?, prefix_levels })
    }

    /// Derives the paths of `rows` rows from the payload's columns (all of them, in the schema's order).
    ///
    /// Errors: [`SchemaError::Batch`] if the columns are not the payload's.
    pub fn derive(&self, payload: &[ArrayRef], rows: usize) -> Result<DerivedPaths, SchemaError> {
        let texts = self.levels.iter().map(|level| match level {
            Source::Literal(_) => Ok(None),
            Source::Field(field) => field.texts(payload).map(Some),
        });
        let texts: Vec<Option<StringArray>> = texts.collect::<Result<_, _>>()?;
        let is_prefix_whole = self.prefix_levels == self.levels.len();
        let apart = if is_prefix_whole { 0 } else { rows };
        let mut paths = Vec::with_capacity(bytes_of(&self.levels, &texts, rows));
        let mut prefixes = Vec::with_capacity(bytes_of(&self.levels[..self.prefix_levels], &texts, apart));
        let (mut path_ends, mut prefix_ends) = (Vec::with_capacity(rows + 1), Vec::with_capacity(apart + 1));
        path_ends.push(0i32);
        prefix_ends.push(0i32);
        let mut faults = Vec::new();
        for row in 0..rows {
            let start = paths.len();
            for (at, (level, text)) in self.levels.iter().zip(&texts).enumerate() {
                if at > 0 {
                    paths.push(b'/');
                }
                write_level(level, text.as_ref(), row, &mut paths);
                if at + 1 == self.prefix_levels && !is_prefix_whole {
                    prefixes.extend_from_slice(&paths[start..]);
                }
            }
            let length = paths.len() - start;
            if length > limits::PATH_BYTES_MAX {
                let reason = format!("path: expected at most {} bytes, found {length}", limits::PATH_BYTES_MAX);
                faults.push(Fault { row, reason });
            }
            path_ends.push(offset(paths.len())?);
            if !is_prefix_whole {
                prefix_ends.push(offset(prefixes.len())?);
            }
        }
        let paths = Derived { values: column(paths, path_ends)?, faults };
        let prefixes = if is_prefix_whole { paths.values.clone() } else { column(prefixes, prefix_ends)? };
        Ok(DerivedPaths { paths, prefixes })
    }
}

/// Bytes that these levels take in so many rows if nothing needs escaping: what is derived stays in memory, so its buffer should fit.
fn bytes_of(levels: &[Source], texts: &[Option<StringArray>], rows: usize) -> usize {
    let level = |(level, text): (&Source, &Option<StringArray>)| match (level, text) {
        (Source::Literal(literal), _) => literal.len() * rows,
        (Source::Field(_), Some(text)) if rows > 0 => {
            let offsets = text.value_offsets();
            (offsets[offsets.len() - 1] - offsets[0]) as usize
        }
        (Source::Field(_), _) => 0,
    };
    levels.iter().zip(texts).map(level).sum::<usize>() + (levels.len() - 1) * rows
}

fn write_level(level: &Source, text: Option<&StringArray>, row: usize, into: &mut Vec<u8>) {
    match (level, text) {
        (Source::Literal(literal), _) => into.extend_from_slice(literal.as_bytes()),
        (Source::Field(_), Some(text)) if text.is_valid(row) && !text.value(row).is_empty() => match text.value(row) {
            EMPTY_LEVEL => into.extend_from_slice(b"%2D"),
            value => escape(value, SPECIAL, into),
        },
        (Source::Field(_), _) => into.extend_from_slice(EMPTY_LEVEL.as_bytes()),
    }
}

#[cfg(test)]
mod tests;
