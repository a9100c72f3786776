//! What clients and nodes say to each other: one question and one answer a connection, JSON after its length.

use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use turmoil::net::TcpStream;

pub(crate) const PORT: u16 = 7000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Append(Batch),
    /// A new epoch for a producer.
    Producer {
        topic: String,
        name: String,
    },
    /// Where the topic ends and the hash of all before; linearizable if it is to be fresh, else as far as the node sees.
    Look {
        topic: String,
        is_fresh: bool,
    },
    /// Everything; linearizable.
    Dump {
        topic: String,
    },
    /// Put what there is of a topic into its table.
    Flush {
        topic: String,
    },
    /// Take a topic up again that had stopped.
    Resume {
        topic: String,
    },
    /// Take every lane over.
    TakeOver,
    /// End a topic. Whoever owns its lane makes another of this name.
    Drop {
        topic: String,
    },
    /// Remove what its table needs no more.
    Sweep {
        topic: String,
    },
}

/// Rows, whole or not at all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) topic: String,
    /// `(key, id)`
    pub(crate) rows: Vec<(String, String)>,
    pub(crate) expects: Option<Expects>,
    /// Name, epoch, and the batch's number.
    pub(crate) producer: Option<(String, u64, u64)>,
}

/// Nothing of this key, or of the topic, lies above a seq.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expects {
    /// `None`: the topic.
    pub(crate) key: Option<String>,
    pub(crate) last: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// `of`, here and below: the topic's id. A name is another topic's once it was dropped.
    Appended {
        of: String,
        first: i64,
        last: i64,
        duplicate: bool,
    },
    /// What was expected does not hold: this seq lies above. Nothing happened.
    ConditionFailed {
        of: String,
        last: i64,
    },
    Epoch {
        epoch: u64,
        next: u64,
    },
    Cut {
        of: String,
        end: i64,
        hash: u64,
    },
    Rows {
        of: String,
        rows: Vec<Row>,
    },
    Dropped {
        of: String,
    },
    Done,
    /// Ask another.
    NotOwner,
    /// The producer must begin anew: why.
    ProducerRefused(String),
    /// Nothing happened.
    Refused(String),
    /// It may have happened.
    Unclear(String),
}

/// An event as a reader has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) seq: i64,
    pub(crate) time: i64,
    pub(crate) key: String,
    pub(crate) id: String,
}

/// The hash of a prefix, from that of the prefix before and the row after.
pub(crate) fn link(before: u64, row: &Row) -> u64 {
    let text = format!("{before:x} {} {} {} {}", row.seq, row.time, row.key, row.id);
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

/// Asks a node. Errors: no answer, or none in time: who knows what happened.
pub(crate) async fn ask(node: &str, ask: &Ask, patience: Duration) -> io::Result<Said> {
    let exchange = async {
        let mut stream = TcpStream::connect((node, PORT)).await?;
        send(&mut stream, ask).await?;
        receive(&mut stream).await
    };
    timeout(patience, exchange).await?
}

pub(crate) async fn send<T: Serialize>(stream: &mut TcpStream, message: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    stream.write_u32(bytes.len() as u32).await?;
    stream.write_all(&bytes).await
}

pub(crate) async fn receive<T: DeserializeOwned>(stream: &mut TcpStream) -> io::Result<T> {
    let mut bytes = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}
