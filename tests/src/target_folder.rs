use std::env;
use std::path::{Path, PathBuf};

/// Returns Cargo's target folder, which also holds downloads.
pub(crate) fn target_folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.parent().unwrap_or(package);
    // A relative folder is relative to the working directory of the Cargo call, usually the workspace.
    workspace.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
