use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    NatsServerBuilder, NatsServerError,
    process::{self, Process},
};

/// Timeout for a server to listen.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// Poll interval for the file that names the port.
const POLL: Duration = Duration::from_millis(2);
/// Number of log lines that an error shows.
const SHOWN_LINES: usize = 20;

/// The files of one server, and the options of every start.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) binary: PathBuf,
    folder: TempDir,
    config: Option<PathBuf>,
    /// The folder in which JetStream stores its data; without it, JetStream is off.
    store_dir: Option<PathBuf>,
}

impl Launch {
    pub(super) fn prepare(binary: PathBuf, wanted: &NatsServerBuilder) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("nats-server-").tempdir()?;
        let config = match &wanted.config {
            Some(text) => {
                let path = folder.path().join("server.conf");
                fs::write(&path, text)?;
                Some(path)
            }
            None => None,
        };
        let store_dir =
            wanted.jetstream.then(|| wanted.store_dir.clone().unwrap_or_else(|| folder.path().join("jetstream")));
        Ok(Self { binary, folder, config, store_dir })
    }

    /// Starts the server on `port`, or on a free one, and waits until it listens.
    pub(super) fn start(&self, port: Option<u16>) -> Result<(Process, u16), NatsServerError> {
        // The file of a server that was killed still exists.
        let ports = self.folder.path().join("ports");
        let _ = fs::remove_dir_all(&ports);
        fs::create_dir(&ports).map_err(NatsServerError::io("make the folder of the ports file"))?;

        let command = self.command(port, &ports).map_err(NatsServerError::io("open the log of nats-server"))?;
        let mut process = Process::spawn(command).map_err(NatsServerError::io("start nats-server"))?;
        let port = self.wait_until_ready(&mut process, &ports)?;
        Ok((process, port))
    }

    pub(super) fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn command(&self, port: Option<u16>, ports: &Path) -> io::Result<Command> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(&self.binary);
        command
            .args(["-a", "127.0.0.1", "-p"])
            // With -1 the server binds a free port itself, so no other process can take the port in between.
            .arg(port.map_or_else(|| "-1".to_owned(), |port| port.to_string()))
            .arg("--ports_file_dir")
            .arg(ports);
        if let Some(store_dir) = &self.store_dir {
            command.arg("-js").arg("-sd").arg(store_dir);
        }
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    fn wait_until_ready(&self, process: &mut Process, ports: &Path) -> Result<u16, NatsServerError> {
        let give_up = Instant::now() + READY_LIMIT;
        loop {
            match listening(ports) {
                Some((pid, port)) if pid == process.id() => return Ok(port),
                Some((pid, _)) => {
                    let real = fs::read_link(format!("/proc/{pid}/exe")).ok();
                    process::kill_stranger(pid);
                    return Err(NatsServerError::Wrapper { binary: self.binary.clone(), real });
                }
                None => {}
            }
            if let Some(status) = process.exit_status() {
                let log = self.end_of_log();
                return Err(NatsServerError::Exited { status, log });
            }
            if Instant::now() > give_up {
                let log = self.end_of_log();
                return Err(NatsServerError::NotReady { log });
            }
            thread::sleep(POLL);
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

/// Reads process id and port from `<program>_<pid>.ports`, which a server writes once it listens.
///
/// A file that is still being written counts as absent.
fn listening(ports: &Path) -> Option<(u32, u16)> {
    #[derive(serde::Deserialize)]
    struct Ports {
        nats: Vec<String>,
    }

    let path = fs::read_dir(ports).ok()?.next()?.ok()?.path();
    let (_, pid) = path.file_stem()?.to_str()?.rsplit_once('_')?;
    let ports: Ports = serde_json::from_reader(File::open(&path).ok()?).ok()?;
    let (_, port) = ports.nats.first()?.rsplit_once(':')?;
    Some((pid.parse().ok()?, port.parse().ok()?))
}
