//! A refresh token in its transmitted form.

use std::error::Error;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::id::SessionId;

const PREFIX: &str = "nrt1.";
const BYTES: usize = 16 + 4 + 32;
/// base64url of [`BYTES`] without padding.
const CHARACTERS: usize = (BYTES * 4).div_ceil(3);

/// `nrt1.` and base64url of session id (16 bytes), generation (4, big-endian) and secret (32).
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RefreshToken {
    pub(super) sid: SessionId,
    pub(super) generation: u32,
    pub(super) secret: Secret,
}

pub(super) type Secret = Zeroizing<[u8; 32]>;

impl RefreshToken {
    /// Creates the first token of a new session of `user`.
    pub(super) fn random(user: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut secret = Secret::default();
        // The error of `getrandom` is an error number of the operating system; its text is complete.
        getrandom::fill(secret.as_mut()).map_err(|error| error.to_string())?;
        Ok(Self { sid: SessionId::random(user)?, generation: 0, secret })
    }

    /// Parses a token; returns `None` for anything else, at the cost of a length check.
    pub(super) fn parse(token: &str) -> Option<Self> {
        let encoded = token.strip_prefix(PREFIX).filter(|encoded| encoded.len() == CHARACTERS)?;
        let mut bytes = Zeroizing::new([0; BYTES]);
        // Strict: no padding, no other alphabet, unused bits zero, so that a token has one spelling.
        let length = URL_SAFE_NO_PAD.decode_slice(encoded, bytes.as_mut()).ok()?;
        let (sid, rest) = bytes[..length].split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let secret = rest.first_chunk().filter(|secret| secret.len() == rest.len())?;
        Some(Self {
            sid: SessionId(*sid),
            generation: u32::from_be_bytes(*generation),
            secret: Zeroizing::new(*secret),
        })
    }
}

/// Returns the stored digest of a secret.
pub(super) fn digest(secret: &Secret) -> [u8; 32] {
    Sha256::digest(secret.as_slice()).into()
}

impl fmt::Display for RefreshToken {
    /// Writes the complete token: only for its holder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Zeroizing::new([0; BYTES]);
        bytes[..16].copy_from_slice(&self.sid.0);
        bytes[16..20].copy_from_slice(&self.generation.to_be_bytes());
        bytes[20..].copy_from_slice(self.secret.as_slice());
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice()))
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken").field("generation", &self.generation).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_as_it_was_written() {
        let token = RefreshToken { generation: 0x0102_0304, ..RefreshToken::random("u1").unwrap() };
        let written = token.to_string();
        assert_eq!(written.len(), 75);
        assert!(RefreshToken::parse(&written) == Some(token));
    }

    #[test]
    fn jwt_claims_23_an_access_token_or_anything_else_is_no_refresh_token() {
        let good = RefreshToken::random("u1").unwrap().to_string();
        let wrong = [
            String::new(),
            "nrt1.".to_owned(),
            "eyJhbGciOiJIUzI1NiJ9.e30.AAAA".to_owned(),
            good[..74].to_owned(),
            format!("{good}A"),
            format!("{good}="),
            good.replacen("nrt1", "nrt2", 1),
            good.replacen("nrt1", "NRT1", 1),
            format!(" {good}"),
            format!("{}\n", &good[..74]),
            format!("nrt1.{}", "A".repeat(1 << 20)),
            format!("nrt1.{}", "+".repeat(70)),
        ];
        for wrong in wrong {
            assert!(RefreshToken::parse(&wrong).is_none(), "{}", &wrong[..wrong.len().min(80)]);
        }
        assert!(RefreshToken::parse(&good).is_some());
    }

    #[test]
    fn a_token_has_one_spelling() {
        let good = RefreshToken::random("u1").unwrap().to_string();
        let (rest, last) = good.split_at(74);
        let spellings = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_']);
        let same = spellings
            .filter(|c| !last.contains(*c))
            .filter(|c| RefreshToken::parse(&format!("{rest}{c}")).is_some_and(|token| token.to_string() == good));
        assert_eq!(same.count(), 0);
    }
}
