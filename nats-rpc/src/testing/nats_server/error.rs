use std::{io, path::PathBuf, process::ExitStatus};

const WAYS: &str = "Install nats-server 2.11 or newer (https://nats.io/download) and put it on PATH, \
                    or set NATS_SERVER_BIN to the path of its binary.";

/// Why no server could be started, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsServerError {
    /// `NATS_SERVER_BIN` is not set and `PATH` has no usable server.
    #[error("no nats-server found: NATS_SERVER_BIN is not set, and {on_path}.\n{WAYS}")]
    NotFound {
        /// What was seen on `PATH`.
        on_path: String,
    },
    /// The binary cannot be run, or it is not a nats-server.
    #[error("{} is no usable nats-server: {reason}.\n{WAYS}", binary.display())]
    NotUsable {
        /// The file that was tried.
        binary: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The server is older than 2.11.
    #[error("{} is nats-server {version}, which is too old.\n{WAYS}", binary.display())]
    TooOld {
        /// The file that was tried.
        binary: PathBuf,
        /// The version that it reports.
        version: String,
    },
    /// The binary is a script that runs the server as its child, which signals would miss.
    #[error(
        "{} is a script that runs nats-server as its child, which a kill would miss.\n\
         Set NATS_SERVER_BIN to the path of the server itself.",
        binary.display()
    )]
    Wrapper {
        /// The script.
        binary: PathBuf,
        /// The server that it ran, where the system tells.
        real: Option<PathBuf>,
    },
    /// The server ended before it listened.
    #[error("nats-server gave up ({status}). The end of its log:\n{log}")]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The server did not listen within 10 s.
    #[error("nats-server does not listen after 10 s. The end of its log:\n{log}")]
    NotReady {
        /// The last lines of its log.
        log: String,
    },
    /// A file or a process could not be made.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl NatsServerError {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
