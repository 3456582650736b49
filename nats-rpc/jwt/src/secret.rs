//! A shared secret of a minimum length that is never printed.

use std::fmt;

use nats_rpc::__private::{SecretVarError, secret_var};
use zeroize::Zeroizing;

use super::config::JwtConfigError;

/// The minimum length of a secret, in bytes: the output size of SHA-256 (RFC 7518, section 3.2).
pub(crate) const MIN_SECRET_BYTES: usize = 32;

/// A shared secret of at least 32 bytes, for HS256 and HMAC.
///
/// It prints as `[redacted]` and its memory is overwritten when it is dropped.
///
/// ```
/// use nats_rpc_jwt::SecretKey;
///
/// let secret = SecretKey::new("JWT_SECRET", "0123456789abcdef0123456789abcdef")?;
/// assert_eq!(format!("{secret:?}"), "SecretKey([redacted])");
/// assert!(SecretKey::new("JWT_SECRET", "your-secret-key").is_err());
/// # Ok::<_, nats_rpc_jwt::JwtConfigError>(())
/// ```
#[derive(Clone)]
pub struct SecretKey {
    name: &'static str,
    bytes: Zeroizing<Vec<u8>>,
}

impl SecretKey {
    /// Creates a secret from `secret`. Errors call it `name`, usually the environment variable.
    ///
    /// # Errors
    /// [`JwtConfigError::ShortSecret`] if it has fewer than 32 bytes.
    pub fn new(name: &'static str, secret: impl AsRef<[u8]>) -> Result<Self, JwtConfigError> {
        let bytes = secret.as_ref();
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(JwtConfigError::ShortSecret { name, bytes: bytes.len() });
        }
        Ok(Self { name, bytes: Zeroizing::new(bytes.to_vec()) })
    }

    /// Reads `name` through `vars`, such as `|name| std::env::var(name).ok()`.
    ///
    /// If `name` with the suffix `_FILE` is set instead, the secret is the content of that file. Surrounding white
    /// space is removed, such as the line feed that `echo secret | base64` writes.
    ///
    /// # Errors
    /// [`JwtConfigError::Missing`] if neither is set, or they are empty. There is no default. Otherwise those of
    /// [`optional_from_vars`](Self::optional_from_vars).
    pub fn from_vars(name: &'static str, vars: impl Fn(&str) -> Option<String>) -> Result<Self, JwtConfigError> {
        Self::optional_from_vars(name, vars)?.ok_or(JwtConfigError::Missing { name })
    }

    /// Reads the secret like [`from_vars`](Self::from_vars), but returns `None` if neither is set.
    ///
    /// # Errors
    /// [`JwtConfigError::ShortSecret`] if it has fewer than 32 bytes, [`JwtConfigError::SecretTwice`] if both
    /// variables are set, [`JwtConfigError::SecretFile`] if the file cannot be read.
    pub fn optional_from_vars(
        name: &'static str,
        vars: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, JwtConfigError> {
        match secret_var(vars, name) {
            Ok(secret) => secret.map(|secret| Self::new(name, Zeroizing::new(secret).as_bytes())).transpose(),
            Err(SecretVarError::Both) => Err(JwtConfigError::SecretTwice { name }),
            Err(SecretVarError::Blank) => Err(JwtConfigError::ShortSecret { name, bytes: 0 }),
            Err(SecretVarError::File { source, .. }) => Err(JwtConfigError::SecretFile { name, why: source.kind() }),
        }
    }

    /// Rejects two equal secrets: the holder of one could then forge what the other protects.
    ///
    /// # Errors
    /// [`JwtConfigError::SameSecret`] with the names of both.
    pub fn distinct_from(&self, other: &Self) -> Result<(), JwtConfigError> {
        // Both secrets are the process's own configuration, so the duration of the comparison reveals nothing to an
        // attacker.
        if self.bytes == other.bytes {
            return Err(JwtConfigError::SameSecret { first: self.name, second: other.name });
        }
        Ok(())
    }

    #[doc(hidden)]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_31_bytes_is_refused_and_one_of_32_is_taken() {
        assert_eq!(SecretKey::new("A", [7; 31]).unwrap_err(), JwtConfigError::ShortSecret { name: "A", bytes: 31 });
        assert!(SecretKey::new("A", [7; 32]).is_ok());
    }

    #[test]
    fn an_absent_or_empty_variable_is_named() {
        let missing = JwtConfigError::Missing { name: "JWT_SECRET" };
        assert_eq!(SecretKey::from_vars("JWT_SECRET", |_| None).unwrap_err(), missing);
        assert_eq!(SecretKey::from_vars("JWT_SECRET", |_| Some(String::new())).unwrap_err(), missing);
        assert!(missing.to_string().contains("JWT_SECRET"));
    }

    #[test]
    fn secret_is_read_from_its_variable_or_its_file() {
        const TEXT: &str = "0123456789abcdef0123456789abcdef";
        let folder = std::env::temp_dir().join(format!("nats-rpc-secret-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [full, blank, short] = [("full", format!("{TEXT}\n")), ("blank", " \n".into()), ("short", "tiny".into())]
            .map(|(name, text)| {
                let path = folder.join(name);
                std::fs::write(&path, text).unwrap();
                path.to_str().unwrap().to_owned()
            });
        let read = |value: Option<&str>, file: Option<&str>| {
            SecretKey::optional_from_vars("A", |name| match name {
                "A" => value.map(str::to_owned),
                "A_FILE" => file.map(str::to_owned),
                other => panic!("{other}"),
            })
            .map(|secret| secret.map(|secret| secret.as_bytes().to_vec()))
        };
        let line = format!("{TEXT}\r\n");
        for good in [(Some(TEXT), None), (Some(&*line), Some("")), (None, Some(&*full)), (Some(""), Some(&*full))] {
            assert_eq!(read(good.0, good.1), Ok(Some(TEXT.as_bytes().to_vec())), "{good:?}");
        }
        assert_eq!(read(None, None), Ok(None));
        assert_eq!(read(Some(TEXT), Some(&full)), Err(JwtConfigError::SecretTwice { name: "A" }));
        for (value, file, bytes) in [(Some("\n"), None, 0), (None, Some(&*blank), 0), (None, Some(&*short), 4)] {
            assert_eq!(read(value, file), Err(JwtConfigError::ShortSecret { name: "A", bytes }));
        }
        let why = std::io::ErrorKind::NotFound;
        assert_eq!(read(None, Some("/no/such/file")), Err(JwtConfigError::SecretFile { name: "A", why }));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn two_secrets_must_differ() {
        let (a, b) = (SecretKey::new("A", [1; 32]).unwrap(), SecretKey::new("B", [2; 32]).unwrap());
        assert!(a.distinct_from(&b).is_ok());
        let same = SecretKey::new("B", [1; 32]).unwrap();
        assert_eq!(a.distinct_from(&same).unwrap_err(), JwtConfigError::SameSecret { first: "A", second: "B" });
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = SecretKey::new("A", "correct horse battery staple, twice").unwrap();
        assert!(!format!("{secret:?}").contains("horse"));
        let error = SecretKey::new("A", "tiny secret").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("tiny"));
    }
}
