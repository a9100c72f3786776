//! A link between clients and a server that can be cut, either way: what was under way arrives when it is whole again, as TCP has it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes moved at once.
const PIECE_BYTES: usize = 64 << 10;

/// Which way nothing gets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// What clients send.
    pub requests: bool,
    /// What the server answers.
    pub answers: bool,
}

/// The link. Gone when dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    cut: Arc<watch::Sender<Cut>>,
    _tasks: JoinSet<()>,
}

impl Link {
    /// A whole link to a server.
    pub async fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let cut = Arc::new(watch::Sender::new(Cut::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, Arc::clone(&cut)));
        Ok(Self { address, cut, _tasks: tasks })
    }

    /// Where clients find the server by way of this link.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it is cut like this.
    pub fn cut(&self, cut: Cut) {
        self.cut.send_replace(cut);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, cut: Arc<watch::Sender<Cut>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(server).await else { continue };
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        connections.spawn(carry(from_client, to_server, cut.subscribe(), |cut| cut.requests));
        connections.spawn(carry(from_server, to_client, cut.subscribe(), |cut| cut.answers));
        while connections.try_join_next().is_some() {}
    }
}

/// One direction of a connection; what comes while it is cut waits.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut cut: watch::Receiver<Cut>,
    is_cut: fn(&Cut) -> bool,
) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(bytes @ 1..) = from.read(&mut piece).await {
        let is_whole = cut.wait_for(|cut| !is_cut(cut)).await.is_ok();
        if !is_whole || to.write_all(&piece[..bytes]).await.is_err() {
            return;
        }
    }
}
