//! S3 and everything that speaks like it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::path::Path;
use object_store::{BackoffConfig, RetryConfig};
use schemas::ErrorKind;

use super::rooted::Rooted;
use crate::error::{CatalogError, Result};

/// A client for a prefix of a bucket, set up from the usual `AWS_*` variables and `options` over them. Sends nothing yet.
///
/// Any endpoint will do, one without TLS too; requests name the bucket in their path unless `virtual_hosted_style_request` says otherwise,
/// and end after 30 seconds (5 for the connection) unless `timeout` and `connect_timeout` do. They go over `connector`, if there is one.
///
/// Errors: `Invalid` for an option that is unknown or does not parse.
pub(super) fn connect(
    bucket: &str,
    prefix: &Path,
    options: &BTreeMap<String, String>,
    connector: Option<Arc<dyn HttpConnector>>,
) -> Result<Rooted<AmazonS3>> {
    let mut builder = configured(bucket, options)?;
    if let Some(connector) = connector {
        builder = builder.with_http_connector(Shared(connector));
    }
    let client = builder
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry())
        .build()
        .map_err(|error| invalid(bucket, error))?;
    Ok(Rooted::new(client, prefix.clone()))
}

/// The region where none is set: `object_store`'s.
const REGION: &str = "us-east-1";

/// One setting of other clients.
#[derive(Debug)]
pub(super) struct Told {
    /// As Iceberg's clients call it.
    pub(super) name: &'static str,
    pub(super) value: Option<String>,
    /// Whether it is for those only who are trusted with the server's keys.
    pub(super) is_secret: bool,
}

/// What other clients must be told to reach the same place.
///
/// Errors: `Invalid` for an option that is unknown or does not parse.
pub(super) fn client_settings(bucket: &str, options: &BTreeMap<String, String>) -> Result<Vec<Told>> {
    let builder = configured(bucket, options)?;
    let value = |key| builder.get_config_value(&key);
    let region = || value(AmazonS3ConfigKey::Region).or_else(|| Some(REGION.to_owned()));
    let virtual_hosted = value(AmazonS3ConfigKey::VirtualHostedStyleRequest).is_some_and(|text| text == "true");
    let told = |name, value| Told { name, value, is_secret: false };
    let secret = |name, key| Told { name, value: value(key), is_secret: true };
    Ok(vec![
        told("s3.endpoint", value(AmazonS3ConfigKey::Endpoint)),
        told("s3.region", region()),
        told("client.region", region()),
        told("s3.path-style-access", Some((!virtual_hosted).to_string())),
        secret("s3.access-key-id", AmazonS3ConfigKey::AccessKeyId),
        secret("s3.secret-access-key", AmazonS3ConfigKey::SecretAccessKey),
        secret("s3.session-token", AmazonS3ConfigKey::Token),
    ])
}

/// A builder with the usual variables and `options` over them.
fn configured(bucket: &str, options: &BTreeMap<String, String>) -> Result<AmazonS3Builder> {
    let mut builder = AmazonS3Builder::from_env();
    for (key, value) in options {
        let known = AmazonS3ConfigKey::from_str(&key.to_ascii_lowercase()).map_err(|error| invalid(bucket, error))?;
        builder = builder.with_config(known, value);
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
    Ok(if endpoint.starts_with("http://") { builder.with_allow_http(true) } else { builder })
}

/// Short: a read that fails is tried again for a while, a conditional put is tried again by P0, which knows what to make of the answers.
fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(50), max_backoff: Duration::from_secs(2), base: 2.0 };
    RetryConfig { backoff, max_retries: 10, retry_timeout: Duration::from_secs(20) }
}

/// A connector that somebody else holds too.
#[derive(Debug)]
struct Shared(Arc<dyn HttpConnector>);

impl HttpConnector for Shared {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        self.0.connect(options)
    }
}

fn invalid(bucket: &str, error: object_store::Error) -> CatalogError {
    CatalogError::new(ErrorKind::Invalid, format!("the S3 store in bucket {bucket:?} cannot be set up"))
        .caused_by(error)
}
