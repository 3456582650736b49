//! Node.js programs that talk to the services: NestJS and the official services client.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::progress::telling;
use crate::target_folder::target_folder;

/// Returns the command that runs the program in `tests/interop/<name>`.
///
/// # Errors
/// As [`node_in`].
pub fn program(name: &str) -> Result<Command, Box<dyn Error + Send + Sync>> {
    let mut command = node_in(&Path::new("tests/interop").join(name))?;
    command.arg("main.mjs");
    Ok(command)
}

/// Returns a command for Node in a folder of the workspace, with the packages of its lock file installed.
///
/// The first call installs them with `npm ci`, without running their scripts; concurrent processes install once.
///
/// # Errors
/// If `npm` cannot be started, or the installation fails. The message tells how to fix it.
pub fn node_in(folder: &Path) -> Result<Command, Box<dyn Error + Send + Sync>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("a package stands in a workspace")?;
    let folder = workspace.join(folder);
    installed(&folder)?;
    let mut command = Command::new("node");
    command.current_dir(folder).stdin(Stdio::null());
    Ok(command)
}

/// Returns `true` if Node can be started. Otherwise, tests that need it print that and pass, unless `CI` is set.
pub fn is_there() -> bool {
    let version = Command::new("node").arg("--version").stdin(Stdio::null()).output();
    version.is_ok_and(|output| output.status.success())
}

/// Installs the packages of `folder` unless those of its lock file are installed.
fn installed(folder: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let wanted = fs::read(folder.join("package-lock.json"))?;
    let marker = folder.join("node_modules").join(".installed-lock.json");
    let is_there = || fs::read(&marker).is_ok_and(|found| found == wanted);
    if is_there() {
        return Ok(());
    }
    // The lock is outside of the folder that npm empties, and held until the file is closed at the end.
    let locks = target_folder().join("interop");
    fs::create_dir_all(&locks)?;
    let name = folder.file_name().ok_or("a program's folder has a name")?;
    let lock = File::create(locks.join(name).with_extension("lock"))?;
    lock.lock()?;
    if is_there() {
        return Ok(());
    }
    telling(&format!("installing the packages of {}", folder.display()), || npm_ci(folder))?;
    fs::write(&marker, wanted)?;
    Ok(())
}

fn npm_ci(folder: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut npm = Command::new("npm");
    npm.current_dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    npm.arg(format!("--fetch-timeout={}", FETCH_LIMIT.as_millis()));
    let output = npm.stdin(Stdio::null()).output().map_err(|error| format!("npm cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`npm ci` in {}: {}\n{}", folder.display(), output.status, String::from_utf8_lossy(&output.stderr))
        .into())
}

/// Timeout of npm for one package before it retries, three times at most.
const FETCH_LIMIT: Duration = Duration::from_secs(60);
