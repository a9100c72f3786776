//! The token that the catalog may ask for, and the specification's way to get one for a secret.

use axum::Form;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::Rest;
use crate::settings::Token;

/// What OAuth2 calls an access token.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// What OAuth2 calls exchanging one token for another.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

impl Token {
    /// Whether a call presents it.
    pub(super) fn is_presented(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            value.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        token.is_some_and(|(_, token)| self.is(token.trim()))
    }

    /// Compares hashes, so that the time that it takes tells nothing of how much was right.
    fn is(&self, presented: &str) -> bool {
        blake3::hash(self.reveal().as_bytes()) == blake3::hash(presented.as_bytes())
    }
}

/// `POST v1/oauth/tokens`
#[derive(Deserialize)]
pub(super) struct Grant {
    grant_type: String,
    client_secret: Option<String>,
    subject_token: Option<String>,
}

/// Gives the token to who knows it: as a client's secret (`credential` in clients' settings), or to renew it.
pub(super) async fn exchange(State(rest): State<Rest>, form: Result<Form<Grant>, FormRejection>) -> Response {
    let grant = match form {
        Ok(Form(grant)) => grant,
        Err(rejection) => return refused(StatusCode::BAD_REQUEST, "invalid_request", &rejection.body_text()),
    };
    let Some(token) = &rest.token else {
        let message = "no token is configured (`iceberg.token`): call without one";
        return refused(StatusCode::BAD_REQUEST, "invalid_request", message);
    };
    let presented = match grant.grant_type.as_str() {
        "client_credentials" => grant.client_secret,
        TOKEN_EXCHANGE => grant.subject_token,
        other => {
            let message = format!("expected client_credentials or token exchange, found {other:?}");
            return refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", &message);
        }
    };
    match presented.is_some_and(|presented| token.is(&presented)) {
        true => {
            let body =
                json!({"access_token": token.reveal(), "token_type": "bearer", "issued_token_type": ACCESS_TOKEN});
            ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
        }
        false => refused(StatusCode::UNAUTHORIZED, "invalid_client", "the secret is not the catalog's token"),
    }
}

/// An error as OAuth2 has them.
fn refused(status: StatusCode, error: &str, message: &str) -> Response {
    (status, Json(json!({"error": error, "error_description": message}))).into_response()
}
