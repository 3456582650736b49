use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use nkeys::KeyPair;

/// Writes the seed of a new user nkey to a new file that only its owner can read; returns the public key.
///
/// # Errors
/// If the file already exists, or cannot be written.
pub(super) fn write_new(path: &Path) -> io::Result<String> {
    let pair = KeyPair::new_user();
    let seed = pair.seed().map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{seed}")?;
    file.sync_all()?;
    Ok(pair.public_key())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_written_once_and_only_its_owner_can_read_it() {
        let path = std::env::temp_dir().join(format!("nats-rpc-nkey-{}", std::process::id()));
        let public = write_new(&path).unwrap();
        let seed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(KeyPair::from_seed(seed.trim()).unwrap().public_key(), public);
        assert!(public.starts_with('U') && seed.starts_with("SU"));
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(write_new(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), seed);
        std::fs::remove_file(path).unwrap();
    }
}
