//! Secrets from the environment: a variable, or a file that a second variable names.

use std::io;
use std::path::PathBuf;

/// Error of a secret that was not read. It contains no part of the value.
#[derive(Debug)]
pub enum SecretVarError {
    /// Both the variable and its file are set.
    Both,
    /// The secret consists of blanks alone.
    Blank,
    /// The file cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Returns the name of the variable that names the file of `name`.
pub(crate) fn file_of(name: &str) -> String {
    format!("{name}_FILE")
}

/// Returns the value of `name`, or the content of the file that `name` with `_FILE` names; `None` if neither is set.
///
/// Surrounding blanks are removed: `echo secret | base64` adds a line feed. An empty variable counts as absent.
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
