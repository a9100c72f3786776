//! The system as a suspicious user sees it: a real server on loopback, stock clients, real events, real stores.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ailing;
mod anomalies;
mod command;
mod crash;
mod drivers;
mod engines;
mod evolution;
mod faults;
mod following;
mod hostile;
mod load;
mod notebook;
mod ownership;
mod producers;
mod replay;
mod rest;
mod stores;
mod subscription;
mod torture;
mod verify;
