//! The object-store client's way to the simulated server: its own retries stay, its sockets are turmoil's.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpService,
};
use parking_lot::Mutex;
use tokio::time::timeout;
use turmoil::net::TcpStream;

/// How long a request may take.
const REQUEST_MAX: Duration = Duration::from_secs(3);

/// Connections over the simulated network.
#[derive(Debug)]
pub(crate) struct Simulated;

impl HttpConnector for Simulated {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Client::default()))
    }
}

/// Keeps connections for the next request, as the client's usual transport does.
#[derive(Debug, Default)]
struct Client {
    idle: Mutex<Vec<SendRequest<HttpRequestBody>>>,
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let late = || HttpError::new(HttpErrorKind::Timeout, io::Error::from(io::ErrorKind::TimedOut));
        timeout(REQUEST_MAX, self.exchange(request)).await.unwrap_or_else(|_| Err(late()))
    }
}

impl Client {
    /// One request. A connection on which it went wrong, or took too long, is not used again.
    async fn exchange(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let mut connection = self.connection(&host).await?;
        if let Ok(host) = HeaderValue::from_str(&host) {
            request.headers_mut().insert(HOST, host);
        }
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = path.into();
        }
        let (parts, body) = connection.send_request(request).await.map_err(broken)?.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        self.idle.lock().push(connection);
        Ok(HttpResponse::from_parts(parts, body.into()))
    }

    /// One that is idle and, as far as can be told from here, whole; else a new one. There is one host to connect to.
    async fn connection(&self, host: &str) -> Result<SendRequest<HttpRequestBody>, HttpError> {
        loop {
            let Some(mut idle) = self.idle.lock().pop() else { break };
            if idle.ready().await.is_ok() {
                return Ok(idle);
            }
        }
        let stream = TcpStream::connect((host, crate::server::PORT))
            .await
            .map_err(|error| HttpError::new(HttpErrorKind::Connect, error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // What it says at its end, the exchange says too.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

/// As the client's usual transport would call it.
fn broken(error: hyper::Error) -> HttpError {
    let kind = match () {
        () if error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted() => {
            HttpErrorKind::Request
        }
        () if error.is_timeout() => HttpErrorKind::Timeout,
        () => HttpErrorKind::Interrupted,
    };
    HttpError::new(kind, error)
}
