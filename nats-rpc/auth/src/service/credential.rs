//! A credential in its transmitted form.

use std::error::Error;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const PREFIX: &str = "nsc1.";
/// base64url of 32 bytes without padding.
const SECRET_CHARACTERS: usize = 43;
const MAX_NAME: usize = 32;

/// `nsc1.`, the service's name, a dot, and base64url of 32 random bytes.
pub(super) struct Credential {
    name: String,
    secret: Zeroizing<String>,
}

/// Returns `true` if `name` is a valid service name: 1 to 32 of `a-z`, `0-9`, `-` and `_`.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

impl Credential {
    /// Creates a credential for the service `name`, or returns `None` if the name is invalid.
    pub(super) fn random(name: &str) -> Result<Option<Self>, Box<dyn Error + Send + Sync>> {
        if !is_name(name) {
            return Ok(None);
        }
        let mut secret = Zeroizing::new([0; 32]);
        // The error of `getrandom` is an error number of the operating system; its text is complete.
        getrandom::fill(secret.as_mut()).map_err(|error| error.to_string())?;
        Ok(Some(Self { name: name.to_owned(), secret: URL_SAFE_NO_PAD.encode(secret.as_slice()).into() }))
    }

    /// Parses a credential; returns `None` for anything else, such as a user's token.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, secret) = text.strip_prefix(PREFIX)?.split_once('.')?;
        let is_secret = secret.len() == SECRET_CHARACTERS
            && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        (is_name(name) && is_secret).then(|| Self { name: name.to_owned(), secret: secret.to_owned().into() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the stored digest: SHA-256 is enough for a secret of 256 random bits.
    pub(super) fn digest(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.secret.as_bytes()))
    }

    pub(super) fn has_digest(&self, digest: &str) -> bool {
        self.digest().as_bytes().ct_eq(digest.as_bytes()).into()
    }
}

impl fmt::Display for Credential {
    /// Writes the complete credential: only for its holder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}.{}", self.name, *self.secret)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_reads_back_as_it_was_written_and_is_known_by_its_digest() {
        let (one, other) =
            (Credential::random("billing").unwrap().unwrap(), Credential::random("billing").unwrap().unwrap());
        let read = Credential::parse(&one.to_string()).unwrap();
        assert!(read.name() == "billing" && read.has_digest(&one.digest()));
        assert!(!read.has_digest(&other.digest()) && !read.has_digest("") && !read.has_digest(&one.secret));
        assert!(!format!("{one:?}").contains(one.secret.as_str()));
    }

    #[test]
    fn nothing_else_is_a_credential() {
        let good = Credential::random("a").unwrap().unwrap().to_string();
        let wrong = [
            String::new(),
            "eyJhbGciOiJIUzI1NiJ9.e30.AAAA".to_owned(),
            format!("nrt1.{}", "A".repeat(70)),
            good.replacen("nsc1", "nsc2", 1),
            good.replacen(".a.", "..", 1),
            good.replacen(".a.", ".*.", 1),
            good.replacen(".a.", ".A.", 1),
            good.replacen(".a.", ".a.b.", 1),
            format!("{good}A"),
            good[..good.len() - 1].to_owned(),
        ];
        for wrong in wrong {
            assert!(Credential::parse(&wrong).is_none(), "{wrong}");
        }
        for name in ["", "A", "a.b", "*", &"a".repeat(33)] {
            assert!(Credential::random(name).unwrap().is_none(), "{name}");
        }
    }
}
