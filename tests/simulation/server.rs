//! A server that speaks as much S3 as `object_store` asks for, over the simulated network. Faults strike here, where the client cannot tell them from real ones.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::header::{CONTENT_RANGE, ETAG, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED, RANGE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::sleep;
use turmoil::net::TcpListener;

use crate::faults::{Fault, Request as Kind};
use crate::floor;
use crate::objects::{Condition, Listed, Objects, Refused, etag};
use crate::world::World;

pub(crate) const PORT: u16 = 80;
pub(crate) const HOST: &str = "s3";
pub(crate) const BUCKET: &str = "firn";

/// Longest time that a put lands after nobody waits for it, milliseconds.
const LATE_MAX_MS: u64 = 12_000;
/// Longest wait for a slow answer, milliseconds.
const SLOW_MAX_MS: u64 = 5_000;

pub(crate) type Answer = Response<Full<Bytes>>;

/// Serves for ever.
pub(crate) async fn serve(world: Arc<World>) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (stream, peer) = listener.accept().await?;
        let world = Arc::clone(&world);
        let from = turmoil::reverse_lookup(peer.ip()).unwrap_or_default();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let (world, from) = (Arc::clone(&world), from.clone());
                async move { Asked::read(request).await?.answer(world, &from).await }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            // A connection that breaks off is the client's to notice.
            drop(http.auto_date_header(false).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// A request, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    query: BTreeMap<String, String>,
    condition: Condition,
    range: Option<String>,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) async fn read<B>(request: Request<B>) -> io::Result<Self>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let (parts, body) = request.into_parts();
        let header = |name| parts.headers.get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok());
        let condition = match (header(IF_NONE_MATCH), header(IF_MATCH)) {
            (Some(_), _) => Condition::Absent,
            (None, Some(expected)) => Condition::Matches(expected.to_owned()),
            (None, None) => Condition::None,
        };
        let place = parts.uri.path_and_query().map_or("", |place| place.as_str());
        let url = url::Url::parse(&format!("http://{HOST}{place}")).map_err(io::Error::other)?;
        let path = percent_decode(url.path());
        let path =
            path.trim_start_matches('/').strip_prefix(BUCKET).unwrap_or_default().trim_start_matches('/').to_owned();
        let query = url.query_pairs().into_owned().collect();
        let range = header(RANGE).map(str::to_owned);
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Self { method: parts.method, path, query, condition, range, body })
    }

    fn kind(&self) -> Kind {
        let is_log =
            self.path.starts_with("lanes/") || self.path.ends_with(".json") && !self.path.starts_with("warehouse/");
        match self.method {
            Method::PUT if self.condition == Condition::None => Kind::Put,
            Method::PUT if self.path.contains("/tables/") => Kind::Commit,
            Method::PUT => Kind::PutIf,
            Method::GET if self.path.is_empty() => Kind::List,
            Method::GET if is_log => Kind::ReadLog,
            Method::GET => Kind::Read,
            _ => Kind::Other,
        }
    }

    /// Errors: the connection breaks.
    async fn answer(self, world: Arc<World>, from: &str) -> io::Result<Answer> {
        let now = now();
        if world.plot.lock().keeps_back(from, &self) {
            world.note(format_args!("{from} {} {} is kept back", self.method, self.path));
            return std::future::pending().await;
        }
        let fault = world.store.lock().draw(self.kind(), &self.path, now);
        if matches!(fault, Some(Fault::LateCommit | Fault::Late | Fault::Hang)) && self.kind() == Kind::Commit {
            *world.unanswered.lock() = topic_of(&self.path).map(|topic| (topic, now));
        }
        let answer = match fault {
            None => Ok(self.act_in(&world)),
            Some(fault) => self.struck(fault, &world).await,
        };
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        let struck = fault.map(Fault::name).unwrap_or_default();
        let content = if self.method == Method::PUT { etag(&self.body) } else { String::new() };
        let (method, path) = (&self.method, &self.path);
        world.note(format_args!("{from} {method} {path} {:?} {content} -> {status} {struck}", self.condition));
        world.plot.lock().saw(from, &self, &world, now);
        answer
    }

    async fn struck(&self, fault: Fault, world: &Arc<World>) -> io::Result<Answer> {
        match fault {
            Fault::Before => Ok(failed(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
            Fault::Storm => Ok(failed(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
            Fault::HotSpot => {
                self.dawdle(world, SLOW_MAX_MS / 10).await;
                Ok(failed(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"))
            }
            Fault::Expired => Ok(failed(StatusCode::FORBIDDEN, "ExpiredToken")),
            Fault::Conflict => Ok(failed(StatusCode::CONFLICT, "ConditionalRequestConflict")),
            Fault::Hang => std::future::pending().await,
            Fault::After => {
                self.act_in(world);
                Ok(failed(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"))
            }
            Fault::Lost => {
                self.act_in(world);
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Fault::OwnExists => {
                self.act_in(world);
                Ok(failed(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"))
            }
            Fault::Late | Fault::LateCommit => {
                self.act_later(world);
                std::future::pending().await
            }
            Fault::Doubled => {
                self.act_later(world);
                Ok(self.act_in(world))
            }
            Fault::Slow => {
                self.dawdle(world, SLOW_MAX_MS).await;
                let answer = self.act_in(world);
                self.dawdle(world, SLOW_MAX_MS).await;
                Ok(answer)
            }
            Fault::StaleList => Ok(list(&world.store.lock().objects.stale_list(self.prefix()))),
            Fault::BitFlip | Fault::Truncation | Fault::Misdirected => Ok(self.misread(fault, world)),
            _ => Ok(self.act_in(world)),
        }
    }

    async fn dawdle(&self, world: &World, max_ms: u64) {
        let pause = world.store.lock().pause(max_ms);
        sleep(pause).await;
    }

    fn act_later(&self, world: &Arc<World>) {
        let (asked, world) = (self.clone(), Arc::clone(world));
        let pause = world.store.lock().pause(LATE_MAX_MS);
        tokio::spawn(async move {
            sleep(pause).await;
            let status = asked.act_in(&world).status().as_u16();
            world.note(format_args!("late {} {} -> {status}", asked.method, asked.path));
        });
    }

    /// What the store of a run does, in one step, and whether it may.
    pub(crate) fn act_in(&self, world: &World) -> Answer {
        let mut store = world.store.lock();
        let answer = self.act(&mut store.objects);
        if self.method == Method::PUT && answer.status().is_success() {
            floor::look(&store.objects, &self.path).into_iter().for_each(|fault| world.violated(fault));
        }
        answer
    }

    /// What the store itself does, in one step.
    pub(crate) fn act(&self, objects: &mut Objects) -> Answer {
        match self.method {
            Method::PUT => match objects.put(&self.path, self.body.clone(), &self.condition, now()) {
                Ok(etag) => with_etag(StatusCode::OK, &etag, Bytes::new()),
                Err(Refused::Precondition) => failed(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
                Err(Refused::NotFound) => failed(StatusCode::NOT_FOUND, "NoSuchKey"),
            },
            Method::GET if self.path.is_empty() => list(&objects.list(self.prefix()).collect::<Vec<_>>()),
            Method::GET | Method::HEAD => match objects.get(&self.path) {
                None => failed(StatusCode::NOT_FOUND, "NoSuchKey"),
                Some(object) => self.body_of(&object.etag, object.body.clone()),
            },
            Method::DELETE => {
                objects.remove(&self.path);
                answer(StatusCode::NO_CONTENT, Bytes::new())
            }
            Method::POST => {
                let wanted = String::from_utf8_lossy(&self.body).into_owned();
                let mut removed = String::from("<DeleteResult>");
                for key in wanted.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
                    objects.remove(&unescaped(key));
                    let _ = write!(removed, "<Deleted><Key>{key}</Key></Deleted>");
                }
                removed.push_str("</DeleteResult>");
                answer(StatusCode::OK, removed.into())
            }
            _ => failed(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    /// What is read is not what was written.
    fn misread(&self, fault: Fault, world: &World) -> Answer {
        let mut store = world.store.lock();
        let found = match fault {
            Fault::Misdirected => store.objects.neighbour(&self.path).or(store.objects.get(&self.path)),
            _ => store.objects.get(&self.path),
        };
        let Some(object) = found.cloned() else { return failed(StatusCode::NOT_FOUND, "NoSuchKey") };
        let mut body = object.body.to_vec();
        let place = store.below(body.len());
        match fault {
            Fault::BitFlip if !body.is_empty() => body[place] ^= 1 << store.below(8),
            Fault::Truncation => body.truncate(place),
            _ => {}
        }
        self.body_of(&object.etag, body.into())
    }

    /// The object, or the part of it that was asked for.
    fn body_of(&self, etag: &str, body: Bytes) -> Answer {
        let length = body.len();
        let part = self.range.as_deref().and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            match (first.parse::<usize>(), last.parse::<usize>()) {
                (Ok(first), Ok(last)) => Some(first..length.min(last + 1)),
                (Ok(first), Err(_)) => Some(first..length),
                (Err(_), Ok(last)) => Some(length.saturating_sub(last)..length),
                _ => None,
            }
        });
        let Some(part) = part else { return with_etag(StatusCode::OK, etag, body) };
        if part.start >= part.end {
            return failed(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");
        }
        let range = format!("bytes {}-{}/{length}", part.start, part.end - 1);
        let mut answer = with_etag(StatusCode::PARTIAL_CONTENT, etag, body.slice(part));
        if let Ok(range) = range.parse() {
            answer.headers_mut().insert(CONTENT_RANGE, range);
        }
        answer
    }

    fn prefix(&self) -> &str {
        self.query.get("prefix").map_or("", String::as_str)
    }
}

/// The topic whose table's register this is.
fn topic_of(path: &str) -> Option<String> {
    let (tenant, topic) = path.strip_prefix("tenants/")?.strip_suffix(".json")?.split_once("/tables/")?;
    Some(if tenant == "default" { topic.to_owned() } else { format!("{tenant}/{topic}") })
}

/// Since the begin of the run.
fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

fn answer(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer
}

fn with_etag(status: StatusCode, etag: &str, body: Bytes) -> Answer {
    let mut answer = answer(status, body);
    if let Ok(etag) = etag.parse() {
        answer.headers_mut().insert(ETAG, etag);
    }
    answer
        .headers_mut()
        .insert(LAST_MODIFIED, hyper::header::HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
    answer
}

fn failed(status: StatusCode, code: &str) -> Answer {
    answer(status, format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>").into())
}

fn list(found: &[Listed]) -> Answer {
    let mut xml = format!("<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>");
    for Listed { path, length, etag, written } in found {
        let (path, etag) = (escaped(path), escaped(etag));
        let (seconds, millis) = (written.as_secs(), written.subsec_millis());
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let _ = write!(
            xml,
            "<Contents><Key>{path}</Key><LastModified>2026-01-01T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z</LastModified><ETag>{etag}</ETag><Size>{length}</Size></Contents>"
        );
    }
    xml.push_str("</ListBucketResult>");
    answer(StatusCode::OK, xml.into())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

fn unescaped(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&apos;", "'").replace("&amp;", "&")
}

/// Of a path: `%41` is `A`.
fn percent_decode(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return path.into();
    }
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}
