use std::error::Error;
use std::path::PathBuf;

/// A setting that cannot be used. The error never contains the value, as that may be a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsConfigError {
    /// A variable's value cannot be used.
    #[error("{name} must be {wanted}")]
    #[non_exhaustive]
    Variable {
        /// The variable.
        name: &'static str,
        /// The expected form of the value.
        wanted: &'static str,
    },
    /// Contradictory or incomplete settings; the text names them and the fix.
    #[error("{0}")]
    Incomplete(String),
    /// A server's URL cannot be parsed.
    #[error(
        "NATS_URL holds a server that is no URL such as nats://127.0.0.1:4222 ({source}); percent-encode special \
         characters of a user or password, such as %40 for @"
    )]
    #[non_exhaustive]
    Url {
        /// The parser's error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The credentials file cannot be used.
    #[error("the credentials file {} cannot be used: {source}", path.display())]
    #[non_exhaustive]
    Credentials {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file that a variable names cannot be read.
    #[error("the file {} that {name} names cannot be read: {source}", path.display())]
    #[non_exhaustive]
    File {
        /// The variable.
        name: String,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}
