//! E-mail addresses in the one form that accounts are found by.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

/// The longest address taken, in bytes (RFC 5321, section 4.5.3.1.3, less the angle brackets).
const MAX_BYTES: usize = 254;

/// An e-mail address in canonical form: NFC, trimmed, lower case.
///
/// Validation is minimal, since only a message sent to it proves an address. It prints as
/// `[redacted]`: logs are no place for addresses.
///
/// ```
/// use nats_rpc::auth::Email;
///
/// let email = Email::parse(" Ada@Example.COM ")?;
/// assert_eq!(email.as_str(), "ada@example.com");
/// assert_eq!(email.key(), Email::parse("ada@example.com")?.key());
/// assert!(Email::parse("ada").is_err());
/// # Ok::<_, nats_rpc::auth::EmailError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

/// Why a string is no e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmailError {
    /// Not exactly one `@` with something on either side.
    #[error("an e-mail address has one `@` with something on either side")]
    Shape,
    /// A space, a control character, or one that cannot be seen.
    #[error("an e-mail address has no spaces and no control characters")]
    Character,
    /// More than 254 bytes.
    #[error("an e-mail address has at most {MAX_BYTES} bytes")]
    TooLong,
}

impl Email {
    /// Reads `address` and brings it to canonical form.
    ///
    /// # Errors
    /// [`EmailError`], as its variants say.
    pub fn parse(address: &str) -> Result<Self, EmailError> {
        // Normalising can grow a string; what is far too long is not worth it.
        if address.len() > 4 * MAX_BYTES {
            return Err(EmailError::TooLong);
        }
        // Lower case can undo NFC, so it comes first.
        let canonical: String = address.trim().to_lowercase().nfc().collect();
        if canonical.len() > MAX_BYTES {
            return Err(EmailError::TooLong);
        }
        if canonical.chars().any(|c| c.is_whitespace() || c.is_control() || is_invisible(c)) {
            return Err(EmailError::Character);
        }
        match canonical.split_once('@') {
            Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !domain.contains('@') => {
                Ok(Self(canonical))
            }
            _ => Err(EmailError::Shape),
        }
    }

    /// The canonical form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A KV key for the address: base64url of the SHA-256 of the canonical form, 43 characters.
    ///
    /// KV keys allow no `@`, and what lists the keys of a bucket need not list people.
    pub fn key(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.0.as_bytes()))
    }
}

/// Characters that make two addresses look the same: zero width, direction marks, byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_have_one_key() {
        let key = Email::parse("josé@example.com").unwrap().key();
        for spelling in ["Jose\u{301}@example.com", " JOSÉ@EXAMPLE.COM\n", "jos\u{e9}@Example.com"] {
            assert_eq!(Email::parse(spelling).unwrap().key(), key, "{spelling:?}");
        }
        assert_ne!(Email::parse("jose@example.com").unwrap().key(), key);
        assert_eq!(key.len(), 43);
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in ["", "@", "a@", "@b", "a", "a@b@c", "a@@b"] {
            assert_eq!(Email::parse(wrong), Err(EmailError::Shape), "{wrong:?}");
        }
        for wrong in ["a b@c", "a@b c", "a\0@b", "a\t@b", "a@b\u{200b}", "\u{202e}a@b", "a\u{a0}b@c"] {
            assert_eq!(Email::parse(wrong), Err(EmailError::Character), "{wrong:?}");
        }
    }

    #[test]
    fn an_address_has_at_most_254_bytes() {
        let of = |bytes: usize| format!("{}@example.com", "a".repeat(bytes - 12));
        assert!(Email::parse(&of(254)).is_ok());
        assert_eq!(Email::parse(&of(255)), Err(EmailError::TooLong));
        assert_eq!(Email::parse(&of(1 << 20)), Err(EmailError::TooLong));
        // Space around it does not count, but nobody trims for ever.
        let padded = |bytes: usize| format!("{:bytes$}", "ada@example.com");
        assert!(Email::parse(&padded(4 * 254)).is_ok());
        for far_too_long in [4 * 254 + 1, 60_000] {
            assert_eq!(Email::parse(&padded(far_too_long)), Err(EmailError::TooLong), "{far_too_long}");
        }
    }

    #[test]
    fn an_address_is_not_printed() {
        assert!(!format!("{:?}", Email::parse("ada@example.com")).contains("ada"));
    }
}
