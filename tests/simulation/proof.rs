//! What `firn verify` says of the store when all is over, and as it stood at moments when a floor had just moved: whatever lies below must be elsewhere
//! by then (I7), whether anybody died there or not. It proves I2 to I4, I6 to I11 and I13 from the objects alone.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use catalog::Store;
use catalog::storage::{Meter, StoreConfig};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::header::CONTENT_LENGTH;
use ingest::verify::{Report, Subject, Verdict, Verifier};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use parking_lot::Mutex;

use crate::objects::Objects;
use crate::server::{Asked, BUCKET, HOST};
use crate::world::World;

/// Moments of a run at which the store is proven, the end apart.
const MOMENTS_MAX: usize = 4;
/// The stream of randomness of whoever proves.
const STREAM: usize = 98;

/// Proves the store at some moments and at the end, and says what is wrong.
pub(crate) fn prove(world: &Arc<World>) {
    let (mut moments, end) = {
        let mut store = world.store.lock();
        (std::mem::take(&mut store.objects.moments), store.objects.clone())
    };
    let every = moments.len().div_ceil(MOMENTS_MAX).max(1);
    moments = moments.into_iter().rev().step_by(every).collect();
    // Its clock stands still: nothing here takes time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { return world.failed("no runtime to prove the store with".to_owned()) };
    for (when, objects) in moments.into_iter().chain([("the end".to_owned(), end)]) {
        let reports = runtime.block_on(Box::pin(reports(world, objects)));
        for report in reports.unwrap_or_else(|error| vec![format!("the store cannot be opened: {error}")]) {
            world.violated(format!("at {when}: {report}"));
        }
    }
}

/// What is not proven, in words.
async fn reports(world: &Arc<World>, objects: Objects) -> catalog::Result<Vec<String>> {
    let options = [("aws_endpoint", format!("http://{HOST}")), ("aws_skip_signature", "true".into())];
    let options = options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let config = StoreConfig { url: format!("s3://{BUCKET}"), options, ..StoreConfig::default() };
    let still = Still(Arc::new(Mutex::new(objects)));
    let store = Store::open_over(&config, world.env(STREAM), Arc::new(still)).await?;
    let mut faults = Vec::new();
    let verifier = Verifier::new(store, world.env(STREAM), Meter::default());
    verifier.all(|report| faults.extend(fault(&report))).await;
    Ok(faults)
}

fn fault(Report { subject, verdict, .. }: &Report) -> Option<String> {
    let subject = match subject {
        Subject::Topic { name, .. } => format!("topic {name}"),
        Subject::Lane(lane) => format!("lane {lane}"),
        Subject::Names => "names".to_owned(),
    };
    match verdict {
        Verdict::Proven => None,
        Verdict::Fault(fault) => Some(format!("{}: {subject}: {fault}", fault.law.name)),
        Verdict::Unseen { reason, .. } => Some(format!("{subject} cannot be proven: {reason}")),
    }
}

/// Objects that answer at once, and always.
#[derive(Clone, Debug)]
struct Still(Arc<Mutex<Objects>>);

impl HttpConnector for Still {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Still {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let broken = |error| HttpError::new(HttpErrorKind::Request, error);
        let is_head = request.method() == Method::HEAD;
        let asked = Asked::read(request).await.map_err(broken)?;
        let (mut parts, body) = asked.act(&mut self.0.lock()).into_parts();
        let body = body.collect().await.expect("it is all there").to_bytes();
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
        let body = if is_head { Bytes::new() } else { body };
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}
