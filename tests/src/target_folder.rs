use std::env;
use std::path::{Path, PathBuf};

/// Where Cargo builds, which is where downloads go too.
pub(crate) fn target_folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.parent().unwrap_or(package);
    // A relative folder is relative to where Cargo was called, which by habit is the workspace.
    workspace.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
