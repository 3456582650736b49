//! Python programs that talk to the services.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::progress::telling;
use crate::target_folder::target_folder;

/// Returns the command that runs the program in `tests/interop/<name>`, with its pinned packages installed.
///
/// The first call installs them with pip below the workspace's `target`; concurrent processes install once.
///
/// # Errors
/// If `python3` cannot be started, or the installation fails. The message tells how to fix it.
pub fn program(name: &str) -> Result<Command, Box<dyn Error + Send + Sync>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(name);
    let requirements = folder.join("requirements.txt");
    let packages = target_folder().join("interop").join(name);
    installed(&requirements, &packages)?;
    let mut command = Command::new("python3");
    command.current_dir(folder).arg("main.py").env("PYTHONPATH", packages).stdin(Stdio::null());
    Ok(command)
}

fn installed(requirements: &Path, packages: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let wanted = fs::read(requirements)?;
    let marker = packages.join("installed-requirements.txt");
    let is_there = || fs::read(&marker).is_ok_and(|found| found == wanted);
    if is_there() {
        return Ok(());
    }
    fs::create_dir_all(packages)?;
    // The lock is held until the file is closed, at the end.
    let lock = File::create(packages.join("lock"))?;
    lock.lock()?;
    if is_there() {
        return Ok(());
    }
    telling("installing packages for Python", || pip(requirements, packages))?;
    fs::write(&marker, wanted)?;
    Ok(())
}

fn pip(requirements: &Path, packages: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2"])
        .args(["--require-hashes", "--no-deps", "--only-binary=:all:", "--upgrade", "--target"])
        .arg(packages)
        .arg("--requirement")
        .arg(requirements);
    let output = pip.stdin(Stdio::null()).output().map_err(|error| format!("python3 cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`pip install`: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}
