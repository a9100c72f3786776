//! Real S3 servers on loopback, over a temporary folder.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use catalog::storage::StoreConfig;
use tempfile::TempDir;

use crate::tools::{free_port, tool};

/// The bucket that every server here has.
pub const BUCKET: &str = "firn";

/// Name and secret that every server here knows.
const CREDENTIAL: [&str; 2] = ["firn-tests", "firn-tests-secret"];

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keeps X3 and X4; never syncs.
    VersityGw,
    /// Keeps X3 and X4.
    MinIo,
    /// Lets several writers win.
    Rclone,
    /// Lets several writers win.
    S3sFs,
    /// Lets several writers win.
    S3Mock,
}

/// A running S3 server. Ends when dropped.
#[derive(Debug)]
pub struct S3 {
    kind: Kind,
    port: u16,
    folder: PathBuf,
    child: Child,
    /// Goes with the server, if it is the server's own.
    _own: Option<TempDir>,
}

impl S3 {
    /// Starts a server with one empty bucket, which goes with it, and waits until it listens.
    pub async fn start(kind: Kind) -> Result<Self> {
        let own = tempfile::Builder::new().prefix("firn-s3-").tempdir()?;
        let folder = own.path().to_owned();
        Self::start_in(kind, &folder, Some(own)).await
    }

    /// Starts a server whose bucket lies in this folder, and stays there.
    pub async fn start_over(kind: Kind, folder: &Path) -> Result<Self> {
        Self::start_in(kind, folder, None).await
    }

    async fn start_in(kind: Kind, folder: &Path, own: Option<TempDir>) -> Result<Self> {
        std::fs::create_dir_all(folder.join("data").join(BUCKET))?;
        let port = free_port()?;
        let child = spawn(kind, port, folder, CREDENTIAL[1])?;
        let mut server = Self { kind, port, folder: folder.to_owned(), child, _own: own };
        server.listening().await?;
        Ok(server)
    }

    /// Where a store in this server's bucket lies, under `prefix`.
    pub fn store(&self, prefix: &str) -> StoreConfig {
        let [name, secret] = CREDENTIAL;
        let options = [
            ("aws_endpoint", self.endpoint()),
            ("aws_region", "us-east-1".to_owned()),
            ("aws_access_key_id", name.to_owned()),
            ("aws_secret_access_key", secret.to_owned()),
            ("aws_allow_http", "true".to_owned()),
            ("aws_virtual_hosted_style_request", "false".to_owned()),
        ];
        let options = options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        StoreConfig { url: format!("s3://{BUCKET}/{prefix}"), options, ..StoreConfig::default() }
    }

    /// The same as [`Self::store`] says, for a child process: the usual AWS variables.
    pub fn environment(&self) -> BTreeMap<String, String> {
        self.store("").options.into_iter().map(|(key, value)| (key.to_uppercase(), value)).collect()
    }

    /// The same again as properties of PyIceberg's file access.
    pub fn pyiceberg(&self) -> Vec<String> {
        let [name, secret] = CREDENTIAL;
        vec![
            format!("s3.endpoint={}", self.endpoint()),
            "s3.region=us-east-1".to_owned(),
            format!("s3.access-key-id={name}"),
            format!("s3.secret-access-key={secret}"),
        ]
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// `http://127.0.0.1:…`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends the server as a crash would; its data stays.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again on the same port and data.
    pub async fn restart(&mut self) -> Result<()> {
        self.restart_with(CREDENTIAL[1]).await
    }

    /// Starts it again with another secret: whoever knows the old one is refused.
    pub async fn restart_with(&mut self, secret: &str) -> Result<()> {
        self.child = spawn(self.kind, self.port, &self.folder, secret)?;
        self.listening().await
    }

    async fn listening(&mut self) -> Result<()> {
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait()? {
                bail!("{:?} ended with {status} before it listened", self.kind);
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("{:?} does not listen on port {} after a minute", self.kind, self.port)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn spawn(kind: Kind, port: u16, folder: &Path, secret: &str) -> Result<Child> {
    let [name, _] = CREDENTIAL;
    let data = &folder.join("data");
    let address = format!("127.0.0.1:{port}");
    let mut command = match kind {
        Kind::VersityGw => {
            let mut command = Command::new(tool("versitygw")?);
            command
                .args(["--port", &address, "--access", name, "--secret", secret, "--keep-alive", "--quiet", "posix"])
                .arg(data);
            command
        }
        Kind::MinIo => {
            let mut command = Command::new(tool("minio")?);
            command.args(["server", "--quiet", "--address", &address]).arg(data);
            command.env("MINIO_ROOT_USER", name).env("MINIO_ROOT_PASSWORD", secret).env("MINIO_BROWSER", "off");
            command
        }
        Kind::Rclone => {
            let mut command = Command::new(tool("rclone")?);
            command.args(["serve", "s3", "--addr", &address, "--auth-key", &format!("{name},{secret}")]).arg(data);
            command.args(["--config", "/dev/null"]);
            command
        }
        Kind::S3sFs => {
            let mut command = Command::new(tool("s3s-fs")?);
            command.args([
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--access-key",
                name,
                "--secret-key",
                secret,
            ]);
            command.arg(data);
            command
        }
        Kind::S3Mock => {
            let jar = std::fs::read_dir(tool("s3mock")?)?.next().context("the S3Mock folder is empty")??.path();
            let mut command = Command::new("java");
            command.arg(format!("-Djava.io.tmpdir={}", data.display()));
            command
                .arg("-jar")
                .arg(jar)
                .args([format!("--com.adobe.testing.s3mock.httpPort={port}"), "--server.port=0".to_owned()]);
            command.env("COM_ADOBE_TESTING_S3MOCK_STORE_INITIAL_BUCKETS", BUCKET);
            command
        }
    };
    let log = std::fs::File::create(folder.join("log")).context("a log beside the data")?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("cannot start {kind:?}"))
}
