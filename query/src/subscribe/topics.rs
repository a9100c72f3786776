//! Following every topic that a pattern matches, those made later included.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use schemas::pattern::Pattern;
use schemas::{ErrorKind, Seq, TenantName, TopicDef, TopicId, TopicName, envelope};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::start::Starts;
use super::{Subscribe, in_topic};
use crate::error::{QueryError, Result};
use crate::reader::Reader;
use crate::replay::{Feed, dropped};
use crate::shape::{Shape, envelope_columns};
use crate::stream::{Out, join_error};

/// A subscription under way.
pub(super) struct Following {
    reader: Reader,
    tenant: TenantName,
    wish: Wish,
    start: Starts,
    output: SchemaRef,
    /// Changes when topics come and go; seen as of the call.
    changes: watch::Receiver<u64>,
    /// Topics that were there at the call, with their cursors.
    feeds: Vec<(Arc<TopicDef>, Feed)>,
}

/// What is wanted of every topic.
struct Wish {
    pattern: Pattern,
    columns: Option<Vec<String>>,
    filter: Option<String>,
}

impl Wish {
    fn shape(&self, event: SchemaRef) -> Result<Shape> {
        Shape::new(event, self.columns.as_deref(), self.filter.as_deref(), Some(self.pattern.clone()))
    }
}

impl Following {
    /// Finds the topics and their cursors now: what is acknowledged after the call is surely handed out.
    pub(super) async fn begin(
        reader: &Reader,
        tenant: &TenantName,
        subscribe: Subscribe,
        pattern: Pattern,
        start: Starts,
    ) -> Result<Self> {
        let columns = match pattern.topic() {
            Some(_) => subscribe.columns,
            // Topics differ in their payloads: all have the envelope.
            None => Some(subscribe.columns.unwrap_or_else(envelope_columns)),
        };
        let wish = Wish { pattern, columns, filter: subscribe.filter };
        let changes = reader.topics.watch();
        let mut feeds = Vec::new();
        let mut output: Option<SchemaRef> = None;
        for def in reader.topics.list(tenant).into_iter().filter(|def| wish.pattern.may_match(&def.name)) {
            let shape = wish.shape(def.event_schema()).map_err(|error| match wish.pattern.topic() {
                Some(_) => error,
                None => in_topic(&def.name, &error),
            })?;
            same_columns(&def.name, output.get_or_insert_with(|| Arc::clone(shape.output())), shape.output())?;
            let cursor = start.cursor(reader, &def).await?;
            feeds.push((Arc::clone(&def), Feed::new(reader.clone(), def, Arc::new(shape), cursor)));
        }
        let output = match output {
            Some(output) => output,
            // No topic yet: what can be wanted of those to come is the envelope.
            None => Arc::clone(wish.shape(Arc::new(arrow::datatypes::Schema::new(envelope::fields())))?.output()),
        };
        Ok(Self { reader: reader.clone(), tenant: tenant.clone(), wish, start, output, changes, feeds })
    }

    /// Schema of every batch.
    pub(super) fn output(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// Follows until an error, or until its only topic is dropped.
    pub(super) async fn run(mut self, out: Out) -> Result<()> {
        let mut known: HashSet<TopicId> = HashSet::new();
        let mut tasks = JoinSet::new();
        for (def, feed) in self.feeds.drain(..) {
            known.insert(def.id);
            tasks.spawn(follow(self.reader.clone(), def, feed, out.clone()));
        }
        let only = self.wish.pattern.topic().is_some();
        loop {
            // Topics may have come between the call and here, so they are looked at before the first wait.
            for def in self.reader.topics.list(&self.tenant) {
                if !only && self.wish.pattern.may_match(&def.name) && known.insert(def.id) {
                    let shape = self.wish.shape(def.event_schema()).map_err(|error| in_topic(&def.name, &error))?;
                    same_columns(&def.name, &self.output, shape.output())?;
                    let cursor = self.start.cursor_of_new(&def.name);
                    let feed = Feed::new(self.reader.clone(), Arc::clone(&def), Arc::new(shape), cursor);
                    tasks.spawn(follow(self.reader.clone(), def, feed, out.clone()));
                }
            }
            tokio::select! {
                ended = tasks.join_next(), if !tasks.is_empty() => match ended {
                    Some(Err(join)) => return Err(join_error(join)),
                    Some(Ok(Err(error))) if only || error.kind() != ErrorKind::NotFound => return Err(error),
                    // A topic was dropped; the others go on.
                    Some(Ok(_)) | None => {}
                },
                changed = self.changes.changed() => {
                    changed.map_err(|_| QueryError::new(ErrorKind::Unavailable, "the server is stopping"))?;
                }
            }
        }
    }
}

/// Hands out one topic's events from the feed's cursor on, as they are decided. Errors: `NotFound` once the topic is dropped; those of reading.
async fn follow(reader: Reader, def: Arc<TopicDef>, mut feed: Feed, out: Out) -> Result<()> {
    let mut decided = reader.tail.watch(&def.id).ok_or_else(|| dropped(&def))?;
    loop {
        feed.run_to(None, &out).await?;
        let cursor: Seq = feed.cursor();
        // The sender goes with the topic, or with the process.
        if decided.wait_for(|end| *end > cursor).await.is_err() {
            return Err(match reader.tail.watch(&def.id) {
                None => dropped(&def),
                Some(_) => QueryError::new(ErrorKind::Unavailable, "the server is stopping"),
            });
        }
    }
}

/// Errors: `Invalid` if the topic's wanted columns are not those of the stream.
fn same_columns(topic: &TopicName, expected: &SchemaRef, found: &SchemaRef) -> Result<()> {
    let same = expected.fields().len() == found.fields().len()
        && expected.fields().iter().zip(found.fields()).all(|(expected, found)| {
            (expected.name(), expected.data_type(), expected.is_nullable())
                == (found.name(), found.data_type(), found.is_nullable())
        });
    if same {
        return Ok(());
    }
    let message =
        format!("topic {topic}: expected the columns of the pattern's other topics, {expected:?}, found {found:?}");
    Err(QueryError::new(ErrorKind::Invalid, message))
}
