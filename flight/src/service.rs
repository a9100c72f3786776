//! The Flight service: every call is authorised, looked at, and handed to the module that answers it.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as ActionResult, SchemaAsIpc, SchemaResult, Ticket,
};
use arrow_ipc::writer::IpcWriteOptions;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use schemas::ErrorKind;
use tonic::{Request, Response, Status, Streaming};

use crate::append::{self, Source};
use crate::auth::tenant_of;
use crate::error::WireError;
use crate::info::{self, Named};
use crate::shared::Shared;
use crate::status::unsupported;
use crate::ticket::is_json;
use crate::{actions, guard, read, sql};

/// Flight and Flight SQL on one port.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    shared: Arc<Shared>,
}

impl Service {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = BoxStream<'static, Result<T, Status>>;

fn items<T: Send + 'static>(items: Vec<T>) -> Items<T> {
    futures::stream::iter(items.into_iter().map(Ok)).boxed()
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Items<HandshakeResponse>;
    type ListFlightsStream = Items<FlightInfo>;
    type DoGetStream = Items<FlightData>;
    type DoPutStream = Items<PutResult>;
    type DoActionStream = Items<ActionResult>;
    type ListActionsStream = Items<ActionType>;
    type DoExchangeStream = Items<FlightData>;

    /// Anyone is welcome; drivers that must hold a token get one that says so.
    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        let mut answer = guard::answer("handshake", async {
            Ok(items(vec![HandshakeResponse { protocol_version: 0, payload: Bytes::new() }]))
        })
        .await?;
        answer.metadata_mut().insert("authorization", tonic::metadata::MetadataValue::from_static("Bearer anonymous"));
        Ok(answer)
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        let work = async {
            let tenant = tenant_of(request.metadata())?;
            let shared = Arc::clone(&self.shared);
            let topics = shared.topics.list(&tenant);
            let infos = topics.into_iter().map(move |topic| Ok(info::of_topic(&shared, &tenant, &topic)?));
            Ok(guard::stream("list_flights", futures::stream::iter(infos)))
        };
        guard::answer("list_flights", work).await
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let work = async {
            let tenant = tenant_of(request.metadata())?;
            let descriptor = request.into_inner();
            match Named::by(&descriptor)? {
                Some(named) => Ok(info::info(&self.shared, &tenant, descriptor, named).await?),
                None => sql::info(&self.shared, &tenant, descriptor).await,
            }
        };
        guard::answer("get_flight_info", work).await
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        Err(unsupported("PollFlightInfo", "GetFlightInfo answers at once"))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let work = async {
            let tenant = tenant_of(request.metadata())?;
            let descriptor = request.into_inner();
            let schema = match Named::by(&descriptor)? {
                Some(named) => info::schema(&self.shared, &tenant, named).await?,
                None => sql::schema(&self.shared, &tenant, &descriptor).await?,
            };
            let encoded = SchemaResult::try_from(SchemaAsIpc::new(&schema, &IpcWriteOptions::default()));
            Ok(encoded.map_err(|error| WireError::new(ErrorKind::Internal, format!("schema: {error}")))?)
        };
        guard::answer("get_schema", work).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let work = async {
            let tenant = tenant_of(request.metadata())?;
            if read::is_linearizable(request.metadata())? {
                self.shared.engine.catch_up().await.map_err(WireError::from)?;
            }
            let ticket = request.into_inner().ticket;
            if is_json(&ticket) {
                Ok(read::get(&self.shared, &tenant, &ticket).await?)
            } else {
                Ok(read::encode(sql::get(&self.shared, &tenant, &ticket).await?, None)?)
            }
        };
        guard::answer("do_get", work).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let work = async {
            let tenant = tenant_of(request.metadata())?;
            let (descriptor, source) = Box::pin(Source::open(&self.shared, request.into_inner())).await?;
            match Named::by(&descriptor)? {
                Some(named) => Ok(Box::pin(append::open(&tenant, named.append()?, source)).await?),
                None => {
                    let put = Box::pin(sql::put(&self.shared, &tenant, &descriptor.cmd, source));
                    Ok(items(vec![put.await?]))
                }
            }
        };
        guard::answer("do_put", work).await
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        Err(unsupported("DoExchange", "append with DoPut, follow with DoGet and a subscribe ticket"))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let work = async {
            let tenant = tenant_of(request.metadata())?;
            let action = request.into_inner();
            let bodies = if actions::is_ours(&action.r#type) {
                actions::run(&self.shared, &tenant, &action).await?
            } else {
                sql::action::run(&self.shared, &tenant, &action).await?
            };
            Ok(items(bodies.into_iter().map(|body| ActionResult { body }).collect()))
        };
        guard::answer("do_action", work).await
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        let list = actions::list().into_iter().chain(sql::action::list()).collect();
        guard::answer("list_actions", async { Ok(items(list)) }).await
    }
}
