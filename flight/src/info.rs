//! `GetFlightInfo`, `GetSchema`, `ListFlights`: what there is to read, and the ticket that reads it.
//!
//! A path descriptor `["orders"]` stands for the whole topic, `{"replay":{"topic":"orders"}}`.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo};
use bytes::Bytes;
use query::replay::Replay;
use schemas::pattern::Pattern;
use schemas::{ErrorKind, Seq, TenantName, TopicDef, TopicName};

use crate::error::{Result, WireError};
use crate::read;
use crate::shared::Shared;
use crate::ticket::{Append, Request, Ticket, is_json};

/// What a descriptor of the data plane names. `None`: it is Flight SQL's.
pub(crate) enum Named {
    /// A topic, by path.
    Topic(TopicName),
    /// A request, in JSON.
    Ticket(Ticket),
}

impl Named {
    /// Reads a descriptor. Errors: `Invalid`, saying what one looks like.
    pub(crate) fn by(descriptor: &FlightDescriptor) -> Result<Option<Self>> {
        match descriptor.path.as_slice() {
            [] if is_json(&descriptor.cmd) => Ok(Some(Self::Ticket(Ticket::parse(&descriptor.cmd)?))),
            [] if descriptor.cmd.is_empty() => {
                Err(WireError::invalid(r#"descriptor: expected a path such as ["orders"] or a command, found neither"#))
            }
            [] => Ok(None),
            [topic] => Ok(Some(Self::Topic(TopicName::new(topic)?))),
            path => {
                let message =
                    format!(r#"descriptor: expected a path of one element, the topic's name, found {path:?}"#);
                Err(WireError::invalid(message))
            }
        }
    }

    /// What `DoPut` is to do with it. Errors: `Invalid` for a replay or a subscription.
    pub(crate) fn append(self) -> Result<Append> {
        match self {
            Self::Topic(topic) => Ok(Append::to(topic)),
            Self::Ticket(Ticket { request: Request::Append(append), .. }) => Ok(append),
            Self::Ticket(_) => {
                let message = r#"descriptor: DoPut expects a path ["orders"] or {"append":{"topic":"orders"}}, found a ticket for DoGet"#;
                Err(WireError::invalid(message))
            }
        }
    }

    fn read(self) -> Ticket {
        match self {
            Self::Topic(topic) => whole(topic).into(),
            Self::Ticket(ticket) => ticket,
        }
    }
}

fn whole(topic: TopicName) -> Request {
    Request::Replay(Replay::of(topic))
}

/// The schema that reading `named` will have, found by opening it and looking no further; of an append, the one that is expected.
pub(crate) async fn schema(shared: &Arc<Shared>, tenant: &TenantName, named: Named) -> Result<SchemaRef> {
    match named.read().request {
        Request::Append(append) => expected(shared, tenant, &append).await,
        request => Ok(read::open(shared, tenant, request).await?.schema),
    }
}

/// Schema, ticket and, where it is known without reading, the number of rows.
pub(crate) async fn info(
    shared: &Arc<Shared>,
    tenant: &TenantName,
    descriptor: FlightDescriptor,
    named: Named,
) -> Result<FlightInfo> {
    let ticket = named.read();
    let records = match &ticket.request {
        Request::Replay(replay) => records(shared, tenant, replay),
        _ => None,
    };
    let json = ticket.to_json();
    let owner = owner(shared, tenant, &ticket.request);
    let schema = match ticket.request {
        Request::Append(append) => expected(shared, tenant, &append).await?,
        request => read::open(shared, tenant, request).await?.schema,
    };
    describe(&schema, descriptor, json, records, owner)
}

/// The columns that a producer's batches should have.
async fn expected(shared: &Shared, tenant: &TenantName, append: &Append) -> Result<SchemaRef> {
    let mut topic = shared.topic(tenant, &append.topic)?;
    if let Some(version) = append.schema_version.filter(|version| *version != topic.version) {
        topic = shared.engine.topic_version(tenant, &topic, version).await?;
    }
    Ok(Arc::new(Schema::new(topic.payload.arrow_fields())))
}

/// Where the owner of the topic that is asked for answers. `None` if several topics are meant, or nobody knows: then it is this very server's business.
fn owner(shared: &Shared, tenant: &TenantName, request: &Request) -> Option<String> {
    let topic = match request {
        Request::Append(append) => shared.topics.get(tenant, &append.topic),
        Request::Replay(replay) => shared.topics.get(tenant, &replay.topic),
        Request::Subscribe(subscribe) => {
            let pattern = Pattern::parse(&subscribe.pattern).ok()?;
            let name = pattern.topic()?.to_owned().try_into().ok()?;
            shared.topics.get(tenant, &name)
        }
    };
    shared.engine.owner_of(&*topic?)
}

/// One topic of `ListFlights`.
pub(crate) fn of_topic(shared: &Arc<Shared>, tenant: &TenantName, topic: &TopicDef) -> Result<FlightInfo> {
    let descriptor = FlightDescriptor::new_path(vec![topic.name.to_string()]);
    let request = whole(topic.name.clone());
    let records = match &request {
        Request::Replay(replay) => records(shared, tenant, replay),
        _ => None,
    };
    let owner = shared.engine.owner_of(topic);
    describe(&topic.event_schema(), descriptor, Ticket::from(request).to_json(), records, owner)
}

/// One endpoint: at `location`, or here; `records` is -1 on the wire if it is not known.
pub(crate) fn describe(
    schema: &SchemaRef,
    descriptor: FlightDescriptor,
    ticket: Bytes,
    records: Option<i64>,
    location: Option<String>,
) -> Result<FlightInfo> {
    let info = FlightInfo::new().try_with_schema(schema).map_err(|error| {
        WireError::new(ErrorKind::Internal, format!("the answer's schema cannot be encoded: {error}"))
    })?;
    let mut endpoint = FlightEndpoint::new().with_ticket(arrow_flight::Ticket::new(ticket));
    if let Some(location) = location {
        endpoint = endpoint.with_location(location);
    }
    Ok(info
        .with_endpoint(endpoint)
        .with_descriptor(descriptor)
        .with_total_records(records.unwrap_or(-1))
        .with_total_bytes(-1)
        .with_ordered(true))
}

/// How many events a replay would give now: known if neither key nor condition nor an earlier moment chooses among them.
fn records(shared: &Shared, tenant: &TenantName, replay: &Replay) -> Option<i64> {
    if replay.key.is_some() || replay.filter.is_some() || replay.at.is_some() {
        return None;
    }
    let topic = shared.topics.get(tenant, &replay.topic)?;
    let end = shared.engine.tail().snapshot(&topic.id)?.end;
    let from = replay.from.unwrap_or(Seq::FIRST.0).max(Seq::FIRST.0);
    let to = replay.to.unwrap_or(end.0).min(end.0);
    Some((to - from).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_topic_and_a_brace_begins_json() {
        let path = |parts: &[&str]| FlightDescriptor::new_path(parts.iter().map(|part| (*part).to_owned()).collect());
        assert!(matches!(Named::by(&path(&["orders"])), Ok(Some(Named::Topic(name))) if name.as_str() == "orders"));
        assert!(Named::by(&path(&["orders", "eu"])).is_err());
        assert!(Named::by(&path(&["No Name"])).is_err());
        let json = FlightDescriptor::new_cmd(&br#"{"append":{"topic":"orders"}}"#[..]);
        assert!(
            matches!(Named::by(&json).expect("reads").expect("ours").append(), Ok(append) if append.topic.as_str() == "orders")
        );
        let replay = FlightDescriptor::new_cmd(&br#"{"replay":{"topic":"orders"}}"#[..]);
        assert!(Named::by(&replay).expect("reads").expect("ours").append().is_err());
        assert!(Named::by(&FlightDescriptor::new_cmd(&b"\x0a\x01x"[..])).expect("reads").is_none());
        assert!(Named::by(&FlightDescriptor::default()).is_err());
    }
}
