mod binary;
mod error;
mod launch;
mod process;

use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

pub use self::error::NatsServerError;
use self::{launch::Launch, process::Process};

/// Timeout for a server to stop after SIGTERM; then it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The same for a drop, where the test needs nothing more from the server.
const DROP_LIMIT: Duration = Duration::from_secs(2);
/// Timeout for a restart to get its port back.
const PORT_LIMIT: Duration = Duration::from_secs(5);

/// A real nats-server on a free loopback port, which stops when dropped.
///
/// Use it in tests that need features of the real server: permissions, JetStream, lost connections. JetStream is on
/// and stores its data in a temporary folder.
///
/// The binary is the one that `NATS_SERVER_BIN` names, else the first usable `nats-server` on `PATH`, version 2.11 or
/// newer. Nothing is ever downloaded. It works on Unix only.
///
/// All methods are synchronous, and none needs a runtime. Async tests may call them: a start takes some 20 ms, a stop
/// some 5 ms.
///
/// The server ends with its test. A drop sends SIGTERM, then SIGKILL after 2 s. A small `sh` waits for the end of the
/// test process and then kills the server. This covers a test process that is killed, and a `static` value that is
/// never dropped. In that case, only the temporary folder remains.
///
/// # Example
///
/// ```no_run
/// use nats_rpc::testing::NatsServer;
///
/// # async fn test() -> Result<(), Box<dyn std::error::Error>> {
/// let server = NatsServer::start()?;
/// let client = async_nats::connect(server.url()).await?;
/// client.publish("greetings", "hello".into()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the server is stopped when this is dropped"]
pub struct NatsServer {
    // Before `launch`: the process must have ended before the temporary folder is removed.
    process: Option<Process>,
    launch: Launch,
    port: u16,
    pid: u32,
}

impl NatsServer {
    /// Starts the installed server with JetStream on and default settings otherwise.
    ///
    /// # Errors
    ///
    /// As [`NatsServerBuilder::start`].
    pub fn start() -> Result<Self, NatsServerError> {
        Self::builder().start()
    }

    /// Returns a builder that starts the installed server.
    pub fn builder() -> NatsServerBuilder {
        NatsServerBuilder { binary: None, config: None, port: None, store_dir: None, jetstream: true }
    }

    /// Returns a builder that starts the server at `binary`, which must be of version 2.11 or newer.
    pub fn at(binary: impl Into<PathBuf>) -> NatsServerBuilder {
        NatsServerBuilder { binary: Some(binary.into()), ..Self::builder() }
    }

    /// Returns the installed server: the one that `NATS_SERVER_BIN` names, else the first usable one on `PATH`.
    ///
    /// # Errors
    ///
    /// [`NatsServerError::NotFound`] if `NATS_SERVER_BIN` is not set and `PATH` has no usable server;
    /// [`NatsServerError::NotUsable`] or [`NatsServerError::TooOld`] if `NATS_SERVER_BIN` names something other than a
    /// server of version 2.11 or newer.
    pub fn find_binary() -> Result<PathBuf, NatsServerError> {
        binary::find()
    }

    /// Returns the URL for clients, `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Returns the port for clients; a restart keeps it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the process id of the server. A restart changes it; after a kill it is the last one.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the path of the running binary.
    pub fn binary(&self) -> &Path {
        &self.launch.binary
    }

    /// Returns the log of the server since its first start.
    pub fn log(&self) -> String {
        self.launch.log()
    }

    /// Kills the server at once with SIGKILL, like a crash; does nothing if it is not running.
    ///
    /// [`restart`](Self::restart) uses the same port and store.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops the server with SIGTERM and waits until it has exited; does nothing if it is not running.
    ///
    /// After 10 s it is killed. [`restart`](Self::restart) uses the same port and store.
    pub fn terminate(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(STOP_LIMIT);
        }
    }

    /// Freezes the server with SIGSTOP: connections stay open and receive no reply.
    ///
    /// # Errors
    ///
    /// If the server has been killed or terminated.
    pub fn pause(&self) -> io::Result<()> {
        self.running()?.pause()
    }

    /// Resumes a paused server, with SIGCONT.
    ///
    /// # Errors
    ///
    /// If the server has been killed or terminated.
    pub fn resume(&self) -> io::Result<()> {
        self.running()?.signal(Signal::CONT)
    }

    /// Starts lame duck mode with SIGUSR2: the server announces its shutdown to its clients and disconnects them.
    ///
    /// The duration depends on `lame_duck_duration` and `lame_duck_grace_period` of the
    /// [configuration](NatsServerBuilder::config), by default 2 min and 10 s. Until then SIGTERM does not end the
    /// server: a drop waits its 2 s, unless [`kill`](Self::kill) comes first.
    ///
    /// # Errors
    ///
    /// If the server has been killed or terminated.
    pub fn lame_duck(&self) -> io::Result<()> {
        self.running()?.signal(Signal::USR2)
    }

    /// Starts the server again on the same port and the same store.
    ///
    /// A running server is terminated first. While the server is down, another process can take the port; the restart
    /// tries for 5 s to get it back.
    ///
    /// # Errors
    ///
    /// [`NatsServerError::Exited`] if the server exits, for instance because the port stays taken;
    /// [`NatsServerError::NotReady`] if it does not listen within 10 s.
    pub fn restart(&mut self) -> Result<(), NatsServerError> {
        self.terminate();
        let give_up = Instant::now() + PORT_LIMIT;
        let (process, port) = loop {
            match self.launch.start(Some(self.port)) {
                Err(NatsServerError::Exited { log, .. })
                    if log.contains("address already in use") && Instant::now() < give_up =>
                {
                    thread::sleep(Duration::from_millis(50));
                }
                started => break started?,
            }
        };
        self.adopt(process, port);
        Ok(())
    }

    fn running(&self) -> io::Result<&Process> {
        self.process.as_ref().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "nats-server is not running"))
    }

    fn adopt(&mut self, process: Process, port: u16) {
        self.pid = process.id();
        self.port = port;
        self.process = Some(process);
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(DROP_LIMIT);
        }
    }
}

/// A builder with the options of a [`NatsServer`].
///
/// # Example
///
/// ```no_run
/// use nats_rpc::testing::NatsServer;
///
/// # fn test() -> Result<(), Box<dyn std::error::Error>> {
/// let server = NatsServer::builder()
///     .config(r#"
///         max_payload: 4KB
///         authorization { users: [{ user: gateway, password: secret, permissions: { publish: ">" } }] }
///     "#)
///     .start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `start`"]
pub struct NatsServerBuilder {
    binary: Option<PathBuf>,
    config: Option<String>,
    port: Option<u16>,
    store_dir: Option<PathBuf>,
    jetstream: bool,
}

impl NatsServerBuilder {
    /// Sets the text of the server's configuration file: users, permissions, limits, TLS.
    ///
    /// This builder sets address, port, JetStream and its store, and overrides the text. Paths in the text must be
    /// absolute.
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// Sets the port to listen on. Default: a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Sets the folder in which JetStream stores its data, and keeps it. Default: a temporary one that is removed.
    pub fn store_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.store_dir = Some(path.into());
        self
    }

    /// Sets whether JetStream is on. Default: `true`.
    pub fn jetstream(mut self, on: bool) -> Self {
        self.jetstream = on;
        self
    }

    /// Starts the server and waits until it listens, at most 10 s.
    ///
    /// # Errors
    ///
    /// As [`NatsServer::find_binary`] if there is no usable binary. [`NatsServerError::Exited`] if the server exits
    /// instead of listening, for instance because of its configuration, and [`NatsServerError::NotReady`] if it does
    /// not listen in time; both have the end of its log. [`NatsServerError::Wrapper`] if the binary is a script that
    /// runs the server as its child. [`NatsServerError::Io`] if files or processes cannot be created.
    pub fn start(self) -> Result<NatsServer, NatsServerError> {
        let binary = match &self.binary {
            Some(path) => binary::check(path)?,
            None => binary::find()?,
        };
        let mut launch =
            Launch::prepare(binary, &self).map_err(NatsServerError::io("make the folder of nats-server"))?;
        let (process, port) = match launch.start(self.port) {
            Err(NatsServerError::Wrapper { real: Some(real), .. }) => {
                launch.binary = binary::check(&real)?;
                launch.start(self.port)?
            }
            started => started?,
        };
        Ok(NatsServer { pid: process.id(), process: Some(process), launch, port })
    }
}
