//! What was answered under an idempotency key, so that a request that is sent again is not done again: after a restart, by another process.
//!
//! ```text
//! {root}/tenants/{tenant}/answers/{0-f}.json    the newest answers, by the last digit of their key
//! ```
//!
//! That nothing is done twice does not rest on these: the register that a request changes remembers the key in the same swap ([`super::directory`],
//! [`super::head`]). These give an answer back that was a refusal, and one whose register has changed many times since.

use std::collections::VecDeque;

use bytes::Bytes;
use object_store::path::Path;
use schemas::{ErrorKind, TenantName, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::names::Ident;
use super::pace::Pause;
use super::reply::{Refusal, Reply, Result};
use super::{Request, RestCatalog, Snapshots};
use crate::error::CatalogError;
use crate::storage::{RevisionTag, Swap};

/// Answers in one register.
const ANSWERS_MAX: usize = 256;
/// Longest answer that is kept as it was, bytes; of a longer one only what it was about, which is loaded again.
const BODY_BYTES_MAX: usize = 4 << 10;

/// `tenants/{tenant}/answers/{digit}.json`
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Answers {
    /// The newest last.
    answers: VecDeque<Kept>,
    #[serde(flatten)]
    unknown: serde_json::Map<String, Value>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    key: Uuid,
    /// Method and path of the request.
    route: String,
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    /// The table or view that was answered, if its document was too long to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    about: Option<About>,
}

/// A table or a view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum About {
    Table(Ident),
    View(Ident),
}

impl RestCatalog {
    /// What was answered to this request before. Errors: 422 if the key was another request's.
    pub(super) async fn answered(&self, request: &Request, key: Uuid) -> Result<Option<Reply>> {
        let (answers, _) = self.read_answers(&request.tenant, key).await?;
        let Some(kept) = answers.answers.into_iter().find(|kept| kept.key == key) else { return Ok(None) };
        if kept.route != request.route {
            let message = format!("idempotency key {key} was that of {}: every request has its own", kept.route);
            return Err(Refusal::new(422, "UnprocessableEntityException", message));
        }
        Ok(Some(match (kept.body, kept.about) {
            (None, Some(About::Table(ident))) => self.load_table(&request.tenant, &ident, Snapshots::All, None).await?,
            (None, Some(About::View(ident))) => self.load_view(&request.tenant, &ident).await?,
            (body, _) => Reply { status: kept.status, body, etag: None },
        }))
    }

    /// Keeps an answer. What cannot be kept is answered all the same: the request is done.
    pub(super) async fn keep(&self, request: &Request, key: Uuid, reply: &Reply) {
        let text = reply.body.as_ref().map(Value::to_string).unwrap_or_default();
        let short = text.len() <= BODY_BYTES_MAX;
        // A table that was only staged: nothing has happened that could happen twice.
        if !short && reply.body.as_ref().is_some_and(|body| body["metadata-location"].is_null()) {
            return;
        }
        let kept = Kept {
            key,
            route: request.route.clone(),
            status: reply.status,
            body: reply.body.clone().filter(|_| short),
            about: request.operation.about().filter(|_| !short),
        };
        if let Err(error) = self.keep_answer(&request.tenant, kept).await {
            tracing::debug!(%key, error = error.message, "an answer could not be kept under its key");
        }
    }

    async fn keep_answer(&self, tenant: &TenantName, kept: Kept) -> Result<()> {
        let path = path(tenant, kept.key);
        let mut pause = Pause::new(self.env());
        loop {
            let (mut answers, tag) = self.read_answers(tenant, kept.key).await?;
            if answers.answers.iter().any(|other| other.key == kept.key) {
                return Ok(());
            }
            while answers.answers.len() >= ANSWERS_MAX {
                answers.answers.pop_front();
            }
            answers.answers.push_back(kept.clone());
            let content = Bytes::from(serde_json::to_vec(&answers).expect("answers are JSON"));
            if let Swap::Won(_) = self.store().swap_register(&path, tag.as_ref(), content).await? {
                return Ok(());
            }
            pause.before_another("the answers under idempotency keys").await?;
        }
    }

    async fn read_answers(&self, tenant: &TenantName, key: Uuid) -> crate::Result<(Answers, Option<RevisionTag>)> {
        let path = path(tenant, key);
        let Some(revision) = self.store().read_register(&path).await? else { return Ok(Default::default()) };
        let document = serde_json::from_slice(&revision.content).map_err(|error| {
            CatalogError::new(ErrorKind::Corrupt, format!("register {path} should hold answers")).caused_by(error)
        })?;
        Ok((document, Some(revision.tag)))
    }
}

fn path(tenant: &TenantName, key: Uuid) -> Path {
    let digit = key.as_bytes()[15] & 0xf;
    Path::from_iter(["tenants", tenant.as_str(), "answers", &format!("{digit:x}.json")])
}

const _: () = assert!(ANSWERS_MAX * 2 * BODY_BYTES_MAX <= limits::DIRECTORY_BYTES_MAX);

/// For the fuzzer: the register loses nothing when it is written again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_answers(data: &[u8]) {
    if let Ok(answers) = serde_json::from_slice::<Answers>(data) {
        let written = serde_json::to_vec(&answers).expect("answers are JSON");
        assert_eq!(serde_json::from_slice::<Answers>(&written).ok(), Some(answers));
    }
}
