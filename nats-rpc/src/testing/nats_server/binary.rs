use std::{
    env,
    path::{self, Path, PathBuf},
    process::{Command, Stdio},
};

use super::NatsServerError;

/// The first version with a feature that this crate uses: a time to live per key and message.
const MINIMUM: (u32, u32) = (2, 11);

/// Returns the binary that `NATS_SERVER_BIN` names, else the first usable server on `PATH`.
pub(super) fn find() -> Result<PathBuf, NatsServerError> {
    if let Some(named) = env::var_os("NATS_SERVER_BIN").filter(|named| !named.is_empty()) {
        return check(Path::new(&named));
    }

    let mut refused = Vec::new();
    for folder in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        let candidate = folder.join("nats-server");
        if !candidate.is_file() {
            continue;
        }
        match check(&candidate) {
            Ok(binary) => return Ok(binary),
            Err(NatsServerError::TooOld { version, .. }) => {
                refused.push(format!("{} is {version}", candidate.display()));
            }
            Err(_) => refused.push(format!("{} is not usable", candidate.display())),
        }
    }

    Err(NatsServerError::NotFound {
        on_path: if refused.is_empty() {
            "PATH has no nats-server".to_owned()
        } else {
            format!("on PATH {}", refused.join(", "))
        },
    })
}

/// Returns the absolute path of `binary`, once it has reported a version that is new enough.
///
/// Symbolic links are not resolved: some version managers link every tool to one program, which acts according to the
/// name of the link.
pub(super) fn check(binary: &Path) -> Result<PathBuf, NatsServerError> {
    let not_usable = |reason: String| NatsServerError::NotUsable { binary: binary.to_owned(), reason };
    let binary = path::absolute(binary).map_err(|error| not_usable(error.to_string()))?;

    let output = Command::new(&binary)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| not_usable(error.to_string()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let Some(version) = printed.trim().strip_prefix("nats-server: v") else {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(not_usable(format!("`--version` prints {:?}", format!("{}{}", printed.trim(), complaint.trim()))));
    };

    match major_and_minor(version) {
        Some(found) if found >= MINIMUM => Ok(binary),
        _ => Err(NatsServerError::TooOld { binary, version: version.to_owned() }),
    }
}

fn major_and_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(major_and_minor("2.9.10") < Some(MINIMUM));
        assert!(major_and_minor("2.11.0-RC.1") >= Some(MINIMUM));
        assert!(major_and_minor("2.15.1") >= Some(MINIMUM));
        assert!(major_and_minor("10.0.0") >= Some(MINIMUM));
        assert_eq!(major_and_minor("newest"), None);
    }
}
