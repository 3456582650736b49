//! E-mail addresses in canonical form, by which accounts are looked up.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use unicode_security::confusable_detection::skeleton;
use unicode_security::{GeneralSecurityProfile, RestrictionLevel, RestrictionLevelDetection};

/// The maximum length of an address, in bytes (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const MAX_BYTES: usize = 254;

/// An e-mail address in canonical form: NFC, trimmed, lower case.
///
/// Validation is minimal, since only a message sent to it proves an address. It prints as `[redacted]`, as logs must
/// not contain addresses.
///
/// ```
/// use nats_rpc_auth::Email;
///
/// let email = Email::parse(" Ada@Example.COM ")?;
/// assert_eq!(email.as_str(), "ada@example.com");
/// assert_eq!(email.key(), Email::parse("ada@example.com")?.key());
/// assert!(Email::parse("ada").is_err());
/// # Ok::<_, nats_rpc_auth::EmailError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

/// The reason why a string is not an accepted e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmailError {
    /// It does not have exactly one `@` with text on both sides.
    #[error("an e-mail address has one `@` with something on either side")]
    Shape,
    /// It contains a space, a control character, or an invisible one.
    #[error("an e-mail address has no spaces and no control characters")]
    Character,
    /// A new account's address has a character or a mixture of scripts that looks like another address.
    #[error(
        "a new account's e-mail address has letters of one script in each of its parts, none that is taken for \
         another, and no characters that cannot be seen"
    )]
    LookAlike,
    /// More than 254 bytes.
    #[error("an e-mail address has at most {MAX_BYTES} bytes")]
    TooLong,
}

impl Email {
    /// Parses `address` and converts it to canonical form.
    ///
    /// # Errors
    /// [`EmailError`], as described at its variants.
    pub fn parse(address: &str) -> Result<Self, EmailError> {
        // Normalising can grow a string; a far longer one is rejected without normalising it.
        if address.len() > 4 * MAX_BYTES {
            return Err(EmailError::TooLong);
        }
        // Lowercasing can undo NFC, so it comes first.
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

    /// Parses the `address` of a new account, which must not look like another one.
    ///
    /// It rejects invisible characters, compatibility forms such as fullwidth letters, which NFKC would replace, and
    /// several scripts in one part of the address. It also rejects parts in which every letter that is not ASCII looks
    /// like one that is. This is the profile for identifiers of Unicode Technical Standard 39, "highly restrictive".
    /// An address of ASCII alone is always accepted. [`parse`](Self::parse) accepts the addresses of existing accounts
    /// in any script.
    ///
    /// ```
    /// use nats_rpc_auth::{Email, EmailError};
    ///
    /// assert!(Email::parse_new("josé@example.com").is_ok());
    /// // The first letter is Cyrillic.
    /// assert_eq!(Email::parse_new("\u{430}da@example.com"), Err(EmailError::LookAlike));
    /// ```
    ///
    /// # Errors
    /// [`EmailError`], as described at its variants.
    pub fn parse_new(address: &str) -> Result<Self, EmailError> {
        let email = Self::parse(address)?;
        let is_plain = email.0.is_ascii() || {
            let is_normal = email.0.nfkc().eq(email.0.chars());
            is_normal && email.0.split(|c: char| c.is_ascii_punctuation()).all(is_distinct)
        };
        if is_plain { Ok(email) } else { Err(EmailError::LookAlike) }
    }

    /// Returns the skeleton that all look-alikes of this address share (Unicode Technical Standard 39, section 4).
    ///
    /// It is for comparison only and is not an address: `paypa1` and `paypal` have one skeleton, and so have `rn` and
    /// `m`.
    pub fn skeleton(&self) -> String {
        skeleton(&self.0.nfkc().collect::<String>()).collect()
    }

    /// Returns the canonical form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a KV key for the address: base64url of the SHA-256 of the canonical form, 43 characters.
    ///
    /// KV keys cannot contain `@`, and a listing of a bucket's keys does not reveal addresses.
    pub fn key(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.0.as_bytes()))
    }
}

/// Returns `true` if a part of an address, without punctuation, cannot be mistaken for another.
fn is_distinct(part: &str) -> bool {
    if part.is_ascii() {
        return true;
    }
    let mut foreign = part.chars().filter(|c| !c.is_ascii());
    let is_disguise = |c: char| {
        let mut text = [0; 4];
        let mut looks = skeleton(c.encode_utf8(&mut text));
        looks.next().is_some_and(|like| like.is_ascii()) && looks.next().is_none()
    };
    part.chars().all(GeneralSecurityProfile::identifier_allowed)
        && part.check_restriction_level(RestrictionLevel::HighlyRestrictive)
        && !foreign.all(is_disguise)
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
    fn new_address_looks_like_no_other() {
        for good in [
            "ada@example.com",
            "o'hara+tag_1-x@sub.example.co.uk",
            "josé@example.com",
            "müller@straße.example",
            "søren@bücher.example",
            "дмитрий@example.com",
            "δημήτρης@παράδειγμα.example",
            "用户@例子.example",
            "ユーザー名@example.jp",
            "משתמש@example.com",
            "हिन्दी@example.com",
        ] {
            assert_eq!(Email::parse_new(good).map(|email| email.0), Ok(good.to_owned()));
        }
        for (what, wrong) in [
            ("combining grapheme joiner", "ad\u{34f}a@example.com"),
            ("Hangul filler", "ada\u{3164}@example.com"),
            ("variation selector", "ada\u{fe0f}@example.com"),
            ("tag", "ada\u{e0041}@example.com"),
            ("Mongolian vowel separator", "ada\u{180e}@example.com"),
            ("Khmer inherent vowel", "ada\u{17b4}@example.com"),
            ("a Cyrillic letter among Latin ones", "\u{430}da@example.com"),
            ("a Greek letter among Latin ones", "ad\u{3b1}@example.com"),
            ("a whole word of Cyrillic that looks Latin", "\u{440}\u{430}\u{443}\u{440}\u{430}@example.com"),
            ("in the domain", "ada@ex\u{430}mple.com"),
            ("a whole domain", "ada@\u{430}\u{441}\u{435}.com"),
            ("dotless i", "adm\u{131}n@example.com"),
            ("fullwidth", "\u{ff41}\u{ff44}\u{ff41}@example.com"),
            ("mathematical", "\u{1d41a}da@example.com"),
            ("a ligature", "\u{fb01}n@example.com"),
            ("an Arabic digit", "ada\u{661}@example.com"),
            ("private use", "ada\u{e000}@example.com"),
            ("unassigned", "ada\u{378}@example.com"),
            ("a symbol", "ada\u{2215}b@example.com"),
        ] {
            assert_eq!(Email::parse_new(wrong), Err(EmailError::LookAlike), "{what}");
            assert!(Email::parse(wrong).is_ok(), "an account that exists is found: {what}");
        }
        assert_eq!(Email::parse_new("ada"), Err(EmailError::Shape));
        assert_eq!(Email::parse_new("a\u{200b}@b"), Err(EmailError::Character));
    }

    #[test]
    fn addresses_that_look_alike_have_one_skeleton() {
        let skeleton = |address: &str| Email::parse(address).unwrap().skeleton();
        let ada = skeleton("ada@example.com");
        for alike in [
            "\u{430}da@example.com",
            "ad\u{34f}a@example.com",
            "ada@ex\u{430}mple.com",
            "\u{ff41}da@example.com",
            "ada\u{fe0f}@example.com",
        ] {
            assert_eq!(skeleton(alike), ada, "{alike:?}");
        }
        assert_eq!(skeleton("paypa1@a.b"), skeleton("paypal@a.b"));
        for other in ["ad@example.com", "adä@example.com", "ada@example.org"] {
            assert_ne!(skeleton(other), ada, "{other}");
        }
    }

    #[test]
    fn an_address_has_at_most_254_bytes() {
        let of = |bytes: usize| format!("{}@example.com", "a".repeat(bytes - 12));
        assert!(Email::parse(&of(254)).is_ok());
        assert_eq!(Email::parse(&of(255)), Err(EmailError::TooLong));
        assert_eq!(Email::parse(&of(1 << 20)), Err(EmailError::TooLong));
        // Surrounding space does not count, but trimming is bounded.
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
