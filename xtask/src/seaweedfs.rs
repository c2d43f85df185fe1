//! An S3-compatible server for the tests: SeaweedFS from `.venv`, on free ports of the
//! loopback interface, with data that goes when it goes. It checks signatures, which
//! the lighter ones do not.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::mongodb::free_address;
use crate::{process, workspace};

/// Its parts find each other within a few seconds, on a loaded machine later.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The key that the tests sign with. It opens nothing else.
pub(crate) const ACCESS_KEY: &str = "tests";
/// The key's secret half.
pub(crate) const SECRET_KEY: &str = "secret-of-the-tests";

/// The bucket that tests share; each has a prefix of its own.
const BUCKET: &str = "files";

/// A running server. Dropping it stops the server; so does the end of this process,
/// see [`crate::supervise`].
pub(crate) struct SeaweedFs {
    supervisor: Child,
    s3: SocketAddr,
    filer: SocketAddr,
}

impl SeaweedFs {
    /// Starts the server, and waits until there is a bucket.
    pub(crate) fn start(programs: &Path) -> anyhow::Result<Self> {
        process::step("starting SeaweedFS, the S3-compatible test server", || {
            let (s3, filer) = (free_address()?, free_address()?);
            let name = format!("test-servers/seaweedfs-{}", s3.port());
            let folder = workspace::target().join(name);
            fs::create_dir_all(folder.join("data"))?;
            let log = folder.join("log");
            let supervisor = spawn(programs, s3, filer, &folder, &log)?;
            let mut server = Self {
                supervisor,
                s3,
                filer,
            };
            server.wait_for_bucket(&log)?;
            Ok(server)
        })
    }

    /// Where S3 requests go.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.s3)
    }

    fn wait_for_bucket(&mut self, log: &Path) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let ended = self.supervisor.try_wait()?.is_some();
            if !ended && TcpStream::connect(self.s3).is_ok() && make_bucket(self.filer) {
                return Ok(());
            }
            if ended || start.elapsed() > START_LIMIT {
                let text = fs::read_to_string(log).unwrap_or_default();
                bail!("SeaweedFS did not start; it said:\n{text}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        // The supervisor stops the server when its standard input closes.
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// A bucket is a folder of the filer, which asks for no signature on the loopback
/// interface. Whether it is there.
fn make_bucket(filer: SocketAddr) -> bool {
    use std::io::{Read as _, Write as _};
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(filer)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "POST /buckets/{BUCKET}/ HTTP/1.1\r\nHost: {filer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 201"))
}

/// Starts the server under a supervisor that removes `folder` when it is done.
fn spawn(
    programs: &Path,
    s3: SocketAddr,
    filer: SocketAddr,
    folder: &Path,
    log: &Path,
) -> anyhow::Result<Child> {
    let keys = folder.join("s3.json");
    fs::write(
        &keys,
        format!(
            r#"{{"identities": [{{"name": "tests", "actions": ["Admin", "Read", "Write", "List"],
               "credentials": [{{"accessKey": "{ACCESS_KEY}", "secretKey": "{SECRET_KEY}"}}]}}]}}"#
        ),
    )?;
    let log = File::create(log)?;
    let port = || anyhow::Ok(free_address()?.port().to_string());
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["supervise", "--remove"])
        .arg(folder)
        .arg("--")
        .arg(programs.join("weed"))
        .args(["-logtostderr=true", "server"])
        .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
        .arg(format!("-dir={}", folder.join("data").display()))
        .arg(format!("-s3.config={}", keys.display()))
        .arg(format!("-s3.port={}", s3.port()))
        .arg(format!("-filer.port={}", filer.port()))
        // Each part speaks to the others by gRPC, on a port that would be its own and
        // 10,000 otherwise.
        .arg(format!("-s3.port.grpc={}", port()?))
        .arg(format!("-filer.port.grpc={}", port()?))
        .arg(format!("-master.port={}", port()?))
        .arg(format!("-master.port.grpc={}", port()?))
        .arg(format!("-volume.port={}", port()?))
        .arg(format!("-volume.port.grpc={}", port()?))
        .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
        .args(["-volume.max=20", "-master.volumeSizeLimitMB=64"])
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
        .context("the supervisor of SeaweedFS could not be started")
}
