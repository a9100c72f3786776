//! The wire: Arrow Flight, Flight SQL, health and metrics. Translates, authorises, pushes back; decides nothing.
//!
//! A call goes through `service` (which looks for JSON and paths before it looks for Flight SQL), `auth` (whose call is it), and one of
//! `append`, `read`, `info`, `actions`, `sql`; `guard` keeps its panics its own; `status` is the only place that knows gRPC codes.

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod server;
pub mod settings;

pub mod detail;
pub mod error;
pub mod status;
pub mod terms;
pub mod ticket;

mod advertise;
mod auth;
mod guard;
mod service;
mod shared;

pub mod actions;
pub mod append;
mod decode;
mod info;
mod read;
mod sql;

mod http;
pub mod metrics;
mod phase;
mod rest;

pub use error::{Result, WireError};
pub use server::{Server, ServerConfig};
pub use settings::{IcebergSettings, Settings};
