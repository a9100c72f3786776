//! Names of namespaces, tables and views: parsed once, trusted afterwards.

use std::fmt;

use schemas::{TenantName, limits};
use serde::{Deserialize, Serialize};

use super::reply::{Refusal, Result};

/// Between the levels of a namespace, in paths and in the directory.
const SEPARATOR: char = '\u{1f}';

/// A namespace: one level or more, none empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Namespace(Vec<String>);

/// A table or a view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ident {
    /// Where it lies.
    pub namespace: Namespace,
    /// Its name there.
    pub name: String,
}

impl Namespace {
    /// As a path names it, decoded: levels with a unit separator between.
    ///
    /// Errors: 400 if a level is empty, too long, or holds a control character; or there are too many of them.
    pub fn parse(text: &str) -> Result<Self> {
        Self::try_from(text.split(SEPARATOR).map(str::to_owned).collect::<Vec<_>>()).map_err(Refusal::bad_request)
    }

    /// Whether it is that of a tenant's topics, which has the tenant's name, or would lie below it.
    pub(super) fn is_of_topics(&self, tenant: &TenantName) -> bool {
        self.0.first().is_some_and(|first| first == tenant.as_str())
    }

    /// As the directory names it.
    pub(super) fn key(&self) -> String {
        self.0.join(&SEPARATOR.to_string())
    }

    pub(super) fn parent(&self) -> Option<Self> {
        let (_, parents) = self.0.split_last()?;
        (!parents.is_empty()).then(|| Self(parents.to_vec()))
    }

    /// Whether `key` is that of a namespace directly below this one, or of one at the top for `None`.
    pub(super) fn holds(parent: Option<&Self>, key: &str) -> bool {
        let rest = match parent {
            None => Some(key),
            Some(parent) => key.strip_prefix(&parent.key()).and_then(|rest| rest.strip_prefix(SEPARATOR)),
        };
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(SEPARATOR))
    }

    /// Levels of a namespace by its key.
    pub(super) fn levels(key: &str) -> Vec<&str> {
        key.split(SEPARATOR).collect()
    }
}

impl TryFrom<Vec<String>> for Namespace {
    type Error = String;

    fn try_from(levels: Vec<String>) -> std::result::Result<Self, String> {
        if levels.is_empty() || levels.len() > limits::NAMESPACE_LEVELS_MAX {
            let most = limits::NAMESPACE_LEVELS_MAX;
            return Err(format!("a namespace has 1 to {most} levels, found {}", levels.len()));
        }
        for level in &levels {
            check_name("a namespace's level", level)?;
        }
        Ok(Self(levels))
    }
}

impl From<Namespace> for Vec<String> {
    fn from(namespace: Namespace) -> Self {
        namespace.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl Ident {
    /// Errors: 400 if the name is empty, too long, or holds a control character.
    pub fn new(namespace: Namespace, name: impl Into<String>) -> Result<Self> {
        let ident = Self { namespace, name: name.into() };
        ident.check()?;
        Ok(ident)
    }

    /// Of one that came in a document. Errors: as for [`Self::new`].
    pub(super) fn check(&self) -> Result<()> {
        check_name("a table's name", &self.name).map_err(Refusal::bad_request)
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.name)
    }
}

fn check_name(what: &str, name: &str) -> std::result::Result<(), String> {
    let most = limits::IDENTIFIER_BYTES_MAX;
    if name.is_empty() || name.len() > most {
        return Err(format!("{what} has 1 to {most} bytes, found {}", name.len()));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(found) => Err(format!("{what} holds no control character, found {found:?} in {name:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_its_levels_and_nothing_that_could_be_another() {
        let nested = Namespace::parse("a\u{1f}b.c").unwrap();
        assert_eq!(nested.to_string(), "a.b.c");
        assert_eq!(Namespace::levels(&nested.key()), ["a", "b.c"]);
        assert_eq!(nested.parent(), Some(Namespace::parse("a").unwrap()));
        assert_eq!(Namespace::parse("a").unwrap().parent(), None);
        for wrong in ["", "a\u{1f}", "\u{1f}a", "a\nb", &"x".repeat(limits::IDENTIFIER_BYTES_MAX + 1)] {
            assert_eq!(Namespace::parse(wrong).unwrap_err().status, 400, "{wrong:?}");
        }
    }

    #[test]
    fn only_direct_children_are_held() {
        let a = Namespace::parse("a").unwrap();
        assert!(Namespace::holds(None, "a") && !Namespace::holds(None, "a\u{1f}b"));
        assert!(Namespace::holds(Some(&a), "a\u{1f}b"));
        for other in ["a", "ab", "ab\u{1f}c", "a\u{1f}b\u{1f}c"] {
            assert!(!Namespace::holds(Some(&a), other), "{other:?}");
        }
    }
}
