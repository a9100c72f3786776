//! What of a call is not in its path: whose it is, its idempotency key, its body.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::response::Response;
use catalog::rest::{Refusal, RestCatalog};
use schemas::{TenantName, limits};
use uuid::Uuid;

use super::{Answer, Rest, respond};

/// The header that makes a request's repetition harmless.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// One call, its path and body apart.
pub(super) struct Call {
    catalog: RestCatalog,
    tenant: TenantName,
    key: Option<Uuid>,
    route: String,
}

impl Call {
    /// Does what is asked, or says what is wrong with it.
    pub(super) async fn answer(self, operation: Answer) -> Response {
        let Self { catalog, tenant, key, route } = self;
        let operation = match operation {
            Ok(operation) => operation,
            Err(refusal) => return respond(refusal.into()),
        };
        let request = catalog::rest::Request { tenant, operation, key, route };
        respond(Box::pin(catalog.answer(request)).await)
    }
}

impl FromRequestParts<Rest> for Call {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, rest: &Rest) -> Result<Self, Response> {
        let refused = |refusal: Refusal| respond(refusal.into());
        let catalog = rest.catalog.get().cloned();
        let catalog = catalog.ok_or_else(|| refused(Refusal::unavailable("the server is starting: come again")))?;
        let key = match parts.headers.get(IDEMPOTENCY_KEY) {
            None => None,
            Some(value) => {
                let key = value.to_str().ok().and_then(|text| Uuid::try_parse(text).ok());
                let wrong = || Refusal::bad_request(format!("Idempotency-Key should be a UUID, found {value:?}"));
                Some(key.ok_or_else(|| refused(wrong()))?)
            }
        };
        let route = format!("{} {}", parts.method, parts.uri.path());
        Ok(Self { catalog, tenant: TenantName::default(), key, route })
    }
}

/// The body of a call, as it came.
pub(super) struct Document(pub(super) Bytes);

impl FromRequest<Rest> for Document {
    type Rejection = Response;

    async fn from_request(request: Request, rest: &Rest) -> Result<Self, Response> {
        Bytes::from_request(request, rest).await.map(Self).map_err(|rejection| {
            let message = format!("{rejection}; a body has at most {} bytes", limits::CATALOG_BODY_BYTES_MAX);
            respond(Refusal::new(rejection.status().as_u16(), "BadRequestException", message).into())
        })
    }
}
