//! What the system tests stand on: a real server, stock clients, real data, real stores, other engines as judges.
//!
//! Nothing here knows how Firn works inside. [`client`] speaks the wire with `arrow-flight` alone, as any user of any
//! language would; [`serve`] starts the server that `firn serve` starts, in this process or as a child that can be killed.

pub mod client;
pub mod data;
pub mod disk;
pub mod judge;
pub mod link;
pub mod process;
pub mod rows;
pub mod s3;
pub mod serve;
pub mod tools;
