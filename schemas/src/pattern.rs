//! Patterns over paths: which events a subscription follows.
//!
//! Levels are split by `/`; `*` stands for exactly one level, `>` (last only) for one or more. All else is literal, in the encoded form in which
//! `_path` shows it.

use std::fmt;
use std::str::FromStr;

use crate::error::SchemaError;
use crate::ids::TopicName;
use crate::limits;

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Level {
    Literal(String),
    One,
    Rest,
}

impl Pattern {
    /// Errors: [`SchemaError::Pattern`] saying which level is wrong.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let fault = |reason: String| SchemaError::Pattern { pattern: text.chars().take(200).collect(), reason };
        if text.len() > limits::PATH_BYTES_MAX {
            return Err(fault(format!("expected at most {} bytes, found {}", limits::PATH_BYTES_MAX, text.len())));
        }
        let texts: Vec<&str> = text.split('/').collect();
        if texts.len() > limits::PATH_LEVELS_MAX {
            return Err(fault(format!("expected at most {} levels, found {}", limits::PATH_LEVELS_MAX, texts.len())));
        }
        let mut levels = Vec::with_capacity(texts.len());
        for (at, level) in texts.iter().enumerate() {
            levels.push(match *level {
                "" => return Err(fault(format!("level {} is empty", at + 1))),
                "*" => Level::One,
                ">" if at + 1 == texts.len() => Level::Rest,
                ">" => return Err(fault("expected > as the last level only".into())),
                other if other.contains(['*', '>', '!']) => {
                    return Err(fault(format!("level {other:?}: expected a whole level for * or >")));
                }
                other => Level::Literal(other.to_owned()),
            });
        }
        Ok(Self { levels })
    }

    /// True if the path is among those that the pattern stands for.
    pub fn matches(&self, path: &str) -> bool {
        let mut parts = path.split('/');
        for level in &self.levels {
            match (level, parts.next()) {
                (_, None) => return false,
                (Level::Rest, Some(_)) => return true,
                (Level::Literal(literal), Some(part)) if literal != part => return false,
                (Level::Literal(_) | Level::One, Some(_)) => {}
            }
        }
        parts.next().is_none()
    }

    /// The topic's name if the first level is literal: then no other topic can match.
    pub fn topic(&self) -> Option<&str> {
        match &self.levels[0] {
            Level::Literal(name) => Some(name),
            Level::One | Level::Rest => None,
        }
    }

    /// False if no event of this topic can ever match.
    pub fn may_match(&self, topic: &TopicName) -> bool {
        self.topic().is_none_or(|name| name == topic.as_str())
    }

    /// The longest text that every matching path begins with, whole levels only: what a scan can be pruned by.
    pub fn literal_prefix(&self) -> String {
        let literals = self.levels.iter().map_while(|level| match level {
            Level::Literal(text) => Some(text.as_str()),
            Level::One | Level::Rest => None,
        });
        literals.collect::<Vec<_>>().join("/")
    }
}

impl FromStr for Pattern {
    type Err = SchemaError;
    fn from_str(text: &str) -> Result<Self, SchemaError> {
        Self::parse(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, level) in self.levels.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "/" })?;
            f.write_str(match level {
                Level::Literal(text) => text,
                Level::One => "*",
                Level::Rest => ">",
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
