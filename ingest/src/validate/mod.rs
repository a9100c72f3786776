//! An untrusted Arrow batch becomes rows that fit the topic, and a reason for each row that does not.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use schemas::check::CheckCompiler;
use schemas::{TopicDef, TopicName, TopicSpec};

use crate::engine::Refusal;
use crate::error::Result;
use crate::rows::{Shape, ValidRows};

/// Checks batches against one topic. Made once a schema version; shared by all producers.
#[derive(Debug)]
pub(crate) struct Validator {
    shape: Arc<Shape>,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Validated {
    /// The rows that fit, in their order; `None` if there is none.
    pub(crate) good: Option<ValidRows>,
    /// The others, ascending by row.
    pub(crate) refused: Vec<Refusal>,
}

impl Validator {
    /// Errors: `Invalid` if a check does not compile or a default does not fit its field.
    pub(crate) fn new(def: Arc<TopicDef>, checks: &dyn CheckCompiler) -> Result<Self> {
        let _ = checks;
        Ok(Self { shape: Arc::new(Shape::new(def)?) })
    }

    /// What the topic's batches look like.
    pub(crate) fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// Errors: `Invalid` for a batch whose columns cannot be the topic's or that is over a limit; nothing of it is accepted then.
    pub(crate) fn validate(&self, batch: &RecordBatch) -> Result<Validated> {
        let _ = batch;
        unimplemented!()
    }

    /// The dead letters of a batch: a payload for the topic `{topic}_dead`, whose validator takes it. `refused` is not empty.
    ///
    /// Errors: `Invalid` if they would be larger than a batch may be.
    pub(crate) fn dead_letters(
        &self,
        batch: &RecordBatch,
        refused: &[Refusal],
        producer: Option<&str>,
        batch_id: &str,
    ) -> Result<RecordBatch> {
        let _ = (batch, refused, producer, batch_id);
        unimplemented!()
    }
}

/// The dead-letter topic of `topic`. Errors: `Invalid` if its name would be too long.
pub(crate) fn dead_letter_spec(topic: &TopicName) -> Result<TopicSpec> {
    let _ = topic;
    unimplemented!()
}
