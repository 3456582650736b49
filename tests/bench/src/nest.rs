//! NestJS, in a process of Node's.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the packages may take to arrive.
const INSTALLATION: Duration = Duration::from_secs(300);

/// The command that starts the service, with its packages in place.
///
/// The guard's key is parsed once: the way that the documentation shows, a string, costs sixteen times as much.
pub(crate) fn command() -> Result<Command, Box<dyn Error>> {
    let folder = folder();
    if !folder.join("node_modules").is_dir() {
        install(&folder)?;
    }
    let mut command = Command::new("node");
    command.current_dir(folder).arg("main.mjs").env("KEYOBJECT", "1").env("QUEUE", "q");
    Ok(command)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop/bench-service")
}

fn install(folder: &Path) -> Result<(), Box<dyn Error>> {
    eprintln!("installing NestJS in {}", folder.display());
    let mut npm = Command::new("npm");
    npm.current_dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    let mut npm = npm.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(|error| format!("npm: {error}"))?;
    let give_up = Instant::now() + INSTALLATION;
    loop {
        match npm.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("npm ci: {status}").into()),
            None if Instant::now() > give_up => {
                npm.kill()?;
                npm.wait()?;
                return Err(format!("npm ci was not done after {INSTALLATION:?}").into());
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
