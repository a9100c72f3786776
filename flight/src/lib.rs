//! The wire: Arrow Flight, Flight SQL, health and metrics. Translates, authorises, pushes back; decides nothing.

pub mod server;
pub mod settings;
