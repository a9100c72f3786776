//! Long lists in pieces.

use schemas::limits;
use serde_json::{Value, json};

use super::reply::{Refusal, Result};

/// Which piece of a list is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// What the piece before ended with; empty for the first piece. `None` from clients that know no pieces, if there is no size either.
    pub token: Option<String>,
    /// How many names at most.
    pub size: Option<String>,
}

impl Page {
    /// Cuts sorted names: those of the piece, and what the next is asked for with. A token is the last name of its piece, so that what is made or dropped
    /// meanwhile moves nothing else from one piece to another.
    ///
    /// Errors: 400 if the size is no number above 0.
    fn cut(&self, names: Vec<String>) -> Result<(Vec<String>, Option<String>)> {
        let size =
            match &self.size {
                Some(text) => Some(text.parse().ok().filter(|size| *size > 0).ok_or_else(|| {
                    Refusal::bad_request(format!("pageSize should be a number above 0, found {text:?}"))
                })?),
                None => self.token.as_ref().map(|_| limits::PAGE_NAMES_MAX),
            };
        let Some(size) = size.map(|size: usize| size.min(limits::PAGE_NAMES_MAX)) else { return Ok((names, None)) };
        let after = self.token.as_deref().unwrap_or_default();
        let mut rest = names.into_iter().filter(|name| name.as_str() > after);
        let piece: Vec<_> = rest.by_ref().take(size).collect();
        let next = rest.next().and_then(|_| piece.last().cloned());
        Ok((piece, next))
    }

    /// The piece as a document: `{"<field>": […], "next-page-token": …}`.
    pub(super) fn document(&self, field: &str, names: Vec<String>, show: impl Fn(&str) -> Value) -> Result<Value> {
        let (piece, next) = self.cut(names)?;
        let shown: Vec<_> = piece.iter().map(|name| show(name)).collect();
        Ok(match next {
            Some(next) => json!({field: shown, "next-page-token": next}),
            None => json!({field: shown}),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_pieces_is_the_whole_list_once() {
        let names: Vec<String> = (0..7).map(|n| format!("t{n}")).collect();
        for size in 1..9 {
            let mut page = Page { token: Some(String::new()), size: Some(size.to_string()) };
            let mut found = Vec::new();
            loop {
                let (piece, next) = page.cut(names.clone()).unwrap();
                assert!(piece.len() <= size);
                found.extend(piece);
                match next {
                    Some(next) => page.token = Some(next),
                    None => break,
                }
            }
            assert_eq!(found, names, "pages of {size}");
        }
    }

    #[test]
    fn who_knows_no_pieces_gets_the_whole_and_who_asks_for_none_is_refused() {
        let names: Vec<String> = (0..limits::PAGE_NAMES_MAX + 1).map(|n| format!("{n:08}")).collect();
        assert_eq!(Page::default().cut(names.clone()).unwrap(), (names.clone(), None));
        let first = Page { token: Some(String::new()), size: None };
        assert_eq!(first.cut(names.clone()).unwrap().0.len(), limits::PAGE_NAMES_MAX);
        for size in ["0", "-1", "many"] {
            let page = Page { token: None, size: Some(size.to_owned()) };
            assert_eq!(page.cut(names.clone()).unwrap_err().status, 400, "{size}");
        }
    }
}
