//! What a producer says of one batch: a small JSON document in the `app_metadata` of the batch's message.
//!
//! ```json
//! {"producer_seq": 7,
//!  "conditions": [{"key":"o-17", "expected_last_seq":0}, {"pattern":"orders/eu/>", "expected_last_seq":12}, {"expected_last_seq":99}],
//!  "fence": {"key_prefix":"o-", "token":5}}
//! ```
//!
//! All of it is optional. `producer_seq` goes with a `producer_epoch` in the `append` descriptor. A condition without `key` and `pattern` is about the
//! topic, and so is a fence without `key_prefix`. A column `_expected_last_seq` (Int64) of the batch itself adds a condition on the key of each row in
//! which it is not null.

use catalog::view::Matching;
use ingest::engine::{Condition, Fence, Terms};
use schemas::pattern::Pattern;
use schemas::{Seq, limits};
use serde::{Deserialize, Serialize};

use crate::error::{Result, WireError};
use crate::ticket::parse_json;

/// The `app_metadata` of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchTerms {
    /// The batch's number among its producer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer_seq: Option<u64>,
    /// What must hold; all of it, or nothing of the batch is appended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<LastSeqCondition>,
    /// The writer's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceToken>,
}

/// Nothing that matches lies above `expected_last_seq`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastSeqCondition {
    /// About this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// About paths that match this pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The last seq that may be there; 0: there is none yet.
    pub expected_last_seq: i64,
}

/// A fence of the topic, or of the keys that begin with a prefix, and a token for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceToken {
    /// `None`: the topic's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<String>,
    /// Grows with each writer.
    pub token: u64,
}

impl BatchTerms {
    /// Reads a batch's `app_metadata`; none at all is no terms.
    ///
    /// Errors: `Invalid`, saying what is wrong.
    pub(crate) fn parse(app_metadata: &[u8]) -> Result<Terms> {
        if app_metadata.is_empty() {
            return Ok(Terms::default());
        }
        let Self { producer_seq, conditions, fence } = parse_json("app_metadata of a batch", app_metadata)?;
        let conditions = conditions.into_iter().map(LastSeqCondition::parse).collect::<Result<_>>()?;
        let fence = fence.map(FenceToken::parse).transpose()?;
        Ok(Terms { producer_seq, conditions, fence })
    }

    /// The JSON that travels.
    pub fn to_json(&self) -> bytes::Bytes {
        serde_json::to_vec(self).expect("plain data is always JSON").into()
    }
}

impl LastSeqCondition {
    fn parse(self) -> Result<Condition> {
        let Self { key, pattern, expected_last_seq } = self;
        if expected_last_seq < 0 {
            let message = format!("condition: expected_last_seq is 0 or a seq, found {expected_last_seq}");
            return Err(WireError::invalid(message));
        }
        let of = match (key, pattern) {
            (None, None) => Matching::Topic,
            (Some(key), None) => {
                check_bytes("condition: a key", &key, 1)?;
                Matching::Key(key)
            }
            (None, Some(pattern)) => Matching::Pattern(Pattern::parse(&pattern)?),
            (Some(_), Some(_)) => {
                return Err(WireError::invalid("condition: expected key or pattern or neither, found both"));
            }
        };
        Ok(Condition { of, expected_last_seq: Seq(expected_last_seq) })
    }
}

impl FenceToken {
    pub(crate) fn parse(self) -> Result<Fence> {
        let Self { key_prefix, token } = self;
        if let Some(prefix) = &key_prefix {
            check_bytes("fence: a key prefix", prefix, 1)?;
        }
        Ok(Fence { key_prefix, token })
    }
}

fn check_bytes(what: &str, text: &str, least: usize) -> Result<()> {
    let max = limits::KEY_BYTES_MAX;
    match (least..=max).contains(&text.len()) {
        true => Ok(()),
        false => Err(WireError::invalid(format!("{what} has {least} to {max} bytes, found {}", text.len()))),
    }
}

impl From<&Condition> for LastSeqCondition {
    fn from(condition: &Condition) -> Self {
        let (key, pattern) = match &condition.of {
            Matching::Key(key) => (Some(key.clone()), None),
            Matching::Pattern(pattern) => (None, Some(pattern.to_string())),
            Matching::Topic => (None, None),
        };
        Self { key, pattern, expected_last_seq: condition.expected_last_seq.0 }
    }
}

impl From<&Fence> for FenceToken {
    fn from(fence: &Fence) -> Self {
        Self { key_prefix: fence.key_prefix.clone(), token: fence.token }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terms_are_read_as_they_are_documented() {
        let json = br#"{"producer_seq":7,"conditions":[{"key":"o-17","expected_last_seq":0},{"pattern":"orders/eu/>","expected_last_seq":12},{"expected_last_seq":99}],"fence":{"key_prefix":"o-","token":5}}"#;
        let terms = BatchTerms::parse(json).expect("parses");
        let condition = |of, expected| Condition { of, expected_last_seq: Seq(expected) };
        let pattern = Pattern::parse("orders/eu/>").expect("a pattern");
        let conditions = [
            condition(Matching::Key("o-17".into()), 0),
            condition(Matching::Pattern(pattern), 12),
            condition(Matching::Topic, 99),
        ];
        assert_eq!(terms.conditions, conditions);
        assert_eq!(
            (terms.producer_seq, terms.fence),
            (Some(7), Some(Fence { key_prefix: Some("o-".into()), token: 5 }))
        );
        assert_eq!(BatchTerms::parse(b"").expect("nothing is no terms"), Terms::default());
        let again: Vec<LastSeqCondition> = terms.conditions.iter().map(LastSeqCondition::from).collect();
        let again = BatchTerms { producer_seq: Some(7), conditions: again, fence: None }.to_json();
        assert_eq!(BatchTerms::parse(&again).expect("parses").conditions, conditions);
    }

    #[test]
    fn what_is_no_terms_is_refused_with_a_word_on_what_is_wrong() {
        let long = format!(r#"{{"conditions":[{{"key":"{}","expected_last_seq":0}}]}}"#, "k".repeat(2_000));
        for (json, expected) in [
            ("7", "expected struct"),
            (r#"{"producer_sec":7}"#, "producer_sec"),
            (r#"{"conditions":[{"key":"a","pattern":"t/>","expected_last_seq":0}]}"#, "found both"),
            (r#"{"conditions":[{"key":"a"}]}"#, "expected_last_seq"),
            (r#"{"conditions":[{"expected_last_seq":-1}]}"#, "found -1"),
            (r#"{"conditions":[{"pattern":"a//b","expected_last_seq":0}]}"#, "level 2 is empty"),
            (r#"{"conditions":[{"key":"","expected_last_seq":0}]}"#, "found 0"),
            (r#"{"fence":{"token":-1}}"#, "-1"),
            (&long, "found 2000"),
        ] {
            let error = BatchTerms::parse(json.as_bytes()).expect_err(json);
            assert!(error.to_string().contains(expected), "{error} does not say {expected:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = BatchTerms::parse(&bytes);
        }
    }
}
