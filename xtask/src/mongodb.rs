//! A MongoDB-compatible server for the tests: SecantusDB from `.venv`, on a free
//! port of the loopback interface, with data that goes when it goes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::{process, workspace};

/// A cold Python on a loaded machine needs a few seconds.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server. Dropping it stops the server; so does the end of this
/// process, see [`crate::supervise`].
pub(crate) struct MongoDb {
    supervisor: Child,
    address: SocketAddr,
}

impl MongoDb {
    /// Starts the server and waits until it takes connections.
    pub(crate) fn start(programs: &Path) -> anyhow::Result<Self> {
        process::step(
            "starting SecantusDB, the MongoDB-compatible test server",
            || {
                let address = free_address()?;
                let name = format!("test-servers/secantusdb-{}", address.port());
                let folder = workspace::target().join(name);
                fs::create_dir_all(&folder)?;
                let log = folder.join("log");
                let supervisor = spawn(programs, address, &folder, &log)?;
                let mut server = Self {
                    supervisor,
                    address,
                };
                server.wait_until_ready(&log)?;
                Ok(server)
            },
        )
    }

    /// The connection string.
    pub(crate) fn uri(&self) -> String {
        format!("mongodb://{}/?directConnection=true", self.address)
    }

    fn wait_until_ready(&mut self, log: &Path) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let ended = self.supervisor.try_wait()?.is_some();
            // The log, too: a connection alone could be to somebody else's
            // server that took the port first.
            let text = fs::read_to_string(log).unwrap_or_default();
            if !ended && text.contains("listening on") && TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if ended || start.elapsed() > START_LIMIT {
                bail!("SecantusDB did not start; it said:\n{text}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for MongoDb {
    fn drop(&mut self) {
        // The supervisor stops the server when its standard input closes.
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// Starts the server under a supervisor that removes `folder` when it is done.
fn spawn(programs: &Path, address: SocketAddr, folder: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = File::create(log)?;
    let own: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(own);
    command
        .args(["supervise", "--remove"])
        .arg(folder)
        .arg("--")
        .arg(programs.join("python"))
        .args(["-m", "secantus", "--host"])
        .arg(address.ip().to_string())
        .arg("--port")
        .arg(address.port().to_string())
        .arg("--storage-path")
        .arg(folder.join("data"))
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log);
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        command.process_group(0);
    }
    command
        .spawn()
        .context("the supervisor of SecantusDB could not be started")
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
