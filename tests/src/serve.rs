//! A server in this process: what `firn serve` starts, on free ports.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use catalog::Env;
use catalog::storage::StoreConfig;
use flight::server::{Server, ServerConfig};

use crate::client::Client;

/// A store in a local folder.
pub fn local(folder: &Path) -> StoreConfig {
    StoreConfig {
        url: folder.to_str().expect("temporary folders have plain names").to_owned(),
        ..StoreConfig::default()
    }
}

/// The configuration of a server over `store` on free loopback ports, all else as a user gets it.
pub fn config(store: StoreConfig) -> ServerConfig {
    let mut config = ServerConfig { store, ..ServerConfig::default() };
    config.server.flight = SocketAddr::from(([127, 0, 0, 1], 0));
    config.server.http = SocketAddr::from(([127, 0, 0, 1], 0));
    config
}

/// A server over `store`, and a client of it.
pub async fn serve(store: StoreConfig) -> Result<(Server, Client)> {
    start(config(store)).await
}

/// A server as configured, and a client of it.
pub async fn start(config: ServerConfig) -> Result<(Server, Client)> {
    let server = Server::start(config, Env::system()).await?;
    let client = Client::connect(server.flight_addr()).await?;
    Ok((server, client))
}
