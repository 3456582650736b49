//! Secrets from the environment: a variable, or a file that a second variable names.

use std::io;
use std::path::PathBuf;

/// Error of a secret that was not read. It has no part of the value.
#[derive(Debug)]
pub enum SecretVarError {
    /// The variable and its file are set.
    Both,
    /// There are blanks alone.
    Blank,
    /// The file cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The variable that names the file of `name`.
pub(crate) fn file_of(name: &str) -> String {
    format!("{name}_FILE")
}

/// The value of `name`, or what the file holds that `name` with `_FILE` names; `None` if neither is set.
///
/// Blanks around it are cut off: `echo secret | base64` puts a line feed into it. An empty variable counts as none.
pub fn secret_var(vars: impl Fn(&str) -> Option<String>, name: &str) -> Result<Option<String>, SecretVarError> {
    let set = |name: &str| vars(name).filter(|value| !value.is_empty());
    let text = match (set(name), set(&file_of(name))) {
        (Some(_), Some(_)) => return Err(SecretVarError::Both),
        (None, None) => return Ok(None),
        (Some(text), None) => text,
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            std::fs::read_to_string(&path).map_err(|source| SecretVarError::File { path, source })?
        }
    };
    match text.trim() {
        "" => Err(SecretVarError::Blank),
        text => Ok(Some(text.to_owned())),
    }
}
