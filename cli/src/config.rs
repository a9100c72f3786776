//! Settings: defaults, then the settings file, then `FIRN_*` variables, then flags; the later one wins.

use catalog::storage::StoreConfig;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use flight::server::ServerConfig;
use serde::{Deserialize, Serialize};

use crate::args::{Args, Command, Serve, Verify};
use crate::exit::Failure;

/// The settings file that is read if it is there and none is named.
const DEFAULT_FILE: &str = "firn.toml";
/// Everything that can be set, a table each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    store: StoreConfig,
    ingest: ingest::Settings,
    query: query::Settings,
    server: flight::settings::Settings,
    iceberg: flight::settings::IcebergSettings,
    /// The client's side.
    pub(crate) client: ClientConfig,
}

impl Config {
    /// The server's side.
    pub(crate) fn into_server(self) -> ServerConfig {
        let Self { store, ingest, query, server, iceberg, .. } = self;
        ServerConfig { store, ingest, query, server, iceberg }
    }
}

/// What client commands need.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClientConfig {
    /// Where the server is, or several over one store, separated by commas: the first that answers is asked.
    pub(crate) server: String,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { server: "grpc://127.0.0.1:8815".into() }
    }
}

/// Puts the layers together. Errors: usage, naming the setting and where it was set.
pub(crate) fn load(args: &Args) -> Result<Config, Failure> {
    let mut layers = Figment::from(Serialized::defaults(Config::default()));
    match &args.config {
        Some(file) if !file.is_file() => return Err(Failure::usage(format!("no settings file at {}", file.display()))),
        Some(file) => layers = layers.merge(Toml::file_exact(file)),
        None if std::path::Path::new(DEFAULT_FILE).is_file() => layers = layers.merge(Toml::file_exact(DEFAULT_FILE)),
        None => {}
    }
    layers = layers.merge(Env::prefixed("FIRN_").filter(is_setting).split("__"));
    if let Some(server) = &args.server {
        layers = layers.merge(("client.server", server));
    }
    if let Command::Serve(serve) = &args.command {
        layers = with_serve_flags(layers, serve)?;
    }
    if let Command::Verify(Verify { data: Some(data), .. }) = &args.command {
        layers = layers.merge(("store.url", data));
    }
    layers.extract().map_err(|error| Failure::usage(format!("settings: {error}")))
}

/// `FIRN_INGEST__FLUSH_BYTES` is a setting; `FIRN_SERVER` and `FIRN_LOG` are not.
fn is_setting(name: &figment::value::UncasedStr) -> bool {
    name.as_str().contains("__")
}

fn with_serve_flags(mut layers: Figment, serve: &Serve) -> Result<Figment, Failure> {
    if let Some(data) = &serve.data {
        layers = layers.merge(("store.url", data));
    }
    if let Some(flight) = &serve.flight {
        layers = layers.merge(("server.flight", flight));
    }
    if let Some(http) = &serve.http {
        layers = layers.merge(("server.http", http));
    }
    if let Some(advertise) = &serve.advertise {
        layers = layers.merge(("ingest.advertise", advertise));
    }
    if serve.take_over {
        layers = layers.merge(("ingest.take_over", true));
    }
    for setting in &serve.set {
        let Some((name, value)) = setting.split_once('=') else {
            return Err(Failure::usage(format!("--set {setting}: expected NAME=VALUE")));
        };
        let value: figment::value::Value =
            value.parse().map_err(|_| Failure::usage(format!("--set {setting}: not a value")))?;
        layers = layers.merge((name, value));
    }
    Ok(layers)
}
