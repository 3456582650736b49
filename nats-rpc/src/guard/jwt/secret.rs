//! A shared secret that cannot be too short and is never printed.

use std::fmt;

use zeroize::Zeroizing;

use super::config::JwtConfigError;

/// The shortest secret taken, in bytes: the output size of SHA-256 (RFC 7518, section 3.2).
pub(crate) const MIN_SECRET_BYTES: usize = 32;

/// A shared secret of at least 32 bytes, for HS256 and HMAC.
///
/// It prints as `[redacted]` and its memory is overwritten when it is dropped.
///
/// ```
/// use nats_rpc::jwt::SecretKey;
///
/// let secret = SecretKey::new("JWT_SECRET", "0123456789abcdef0123456789abcdef")?;
/// assert_eq!(format!("{secret:?}"), "SecretKey([redacted])");
/// assert!(SecretKey::new("JWT_SECRET", "your-secret-key").is_err());
/// # Ok::<_, nats_rpc::jwt::JwtConfigError>(())
/// ```
#[derive(Clone)]
pub struct SecretKey {
    name: &'static str,
    bytes: Zeroizing<Vec<u8>>,
}

impl SecretKey {
    /// Takes `secret`; `name` is what errors call it, usually the environment variable.
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

    /// Reads `name` by way of `vars`, such as `|name| std::env::var(name).ok()`.
    ///
    /// # Errors
    /// [`JwtConfigError::Missing`] if it is not set or empty, [`JwtConfigError::ShortSecret`] if it has
    /// fewer than 32 bytes. There is no default.
    pub fn from_vars(name: &'static str, vars: impl Fn(&str) -> Option<String>) -> Result<Self, JwtConfigError> {
        match vars(name).map(Zeroizing::new) {
            Some(secret) if !secret.is_empty() => Self::new(name, secret.as_bytes()),
            _ => Err(JwtConfigError::Missing { name }),
        }
    }

    /// Refuses two secrets that are the same: who holds one could then make what the other protects.
    ///
    /// # Errors
    /// [`JwtConfigError::SameSecret`] with the names of both.
    pub fn distinct_from(&self, other: &Self) -> Result<(), JwtConfigError> {
        // Both are this process's own configuration, so the time that the comparison takes tells nobody anything.
        if self.bytes == other.bytes {
            return Err(JwtConfigError::SameSecret { first: self.name, second: other.name });
        }
        Ok(())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
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
