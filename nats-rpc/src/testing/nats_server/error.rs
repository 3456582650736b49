use std::{io, path::PathBuf, process::ExitStatus};

const WAYS: &str = "Install nats-server 2.11 or newer (https://nats.io/download) and put it on PATH, \
                    or set NATS_SERVER_BIN to the path of its binary.";

/// The reason why no server was started, and how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsServerError {
    /// `NATS_SERVER_BIN` is not set and `PATH` has no usable server.
    #[error("no nats-server found: NATS_SERVER_BIN is not set, and {on_path}.\n{WAYS}")]
    NotFound {
        /// The servers found on `PATH`.
        on_path: String,
    },
    /// The binary cannot run, or it is not a nats-server.
    #[error("{} is no usable nats-server: {reason}.\n{WAYS}", binary.display())]
    NotUsable {
        /// The binary.
        binary: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The server is older than 2.11.
    #[error("{} is nats-server {version}, which is too old.\n{WAYS}", binary.display())]
    TooOld {
        /// The binary.
        binary: PathBuf,
        /// The version that it reports.
        version: String,
    },
    /// The binary is a script that runs the server as its child; signals would not reach that child.
    #[error(
        "{} is a script that runs nats-server as its child, which a kill would miss.\n\
         Set NATS_SERVER_BIN to the path of the server itself.",
        binary.display()
    )]
    Wrapper {
        /// The script.
        binary: PathBuf,
        /// The server that it ran, if the system reveals it.
        real: Option<PathBuf>,
    },
    /// The server exited before it listened.
    #[error("nats-server gave up ({status}). The end of its log:\n{log}")]
    Exited {
        /// Its exit status.
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
    /// A file or a process could not be created.
    #[error("cannot {doing}")]
    Io {
        /// The failed operation.
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl NatsServerError {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
