//! Policy for new passwords: a minimum length and a blocklist.

use std::collections::HashSet;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::{MAX_BYTES, Password, PasswordError};
use crate::email::Email;

/// The default minimum length of a new password, in characters.
const MIN_CHARS: usize = 8;
/// The maximum number of digits and signs around a common word that do not make it a good password.
const MOST_DECORATION: usize = 6;
/// The minimum length of a word of the policy or of the address, in characters; shorter ones are ignored.
const MIN_WORD: usize = 4;
/// The maximum factor by which NFKC lengthens UTF-8 text (Unicode Standard Annex 15).
const MOST_GROWTH: usize = 11;
/// The maximum length of a sequence whose repetition is a pattern.
const MAX_UNIT: usize = 4;

/// Rows, and columns from left to right, of keyboards.
const KEYBOARD: [&str; 6] = [
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "qazwsxedcrfvtgbyhnujmikolp",
    "12345678901234567890",
];

static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common.txt").lines().filter(|line| !line.starts_with('#')).collect());

/// Rules for new passwords (NIST SP 800-63B: a blocklist, no rules of composition).
///
/// The policy rejects common passwords, also with digits or signs around them and with digits in place of letters. It
/// rejects passwords derived from the e-mail address or from a word that the policy names, and those that follow a
/// pattern, such as `abcdefgh` or `12121212`. It applies to new passwords; an existing one stays valid for logging in.
///
/// ```
/// use nats_rpc_auth::{Email, Password, PasswordError, PasswordPolicy};
///
/// let policy = PasswordPolicy::new().forbid("nats-rpc");
/// let email = Email::parse("ada.lovelace@example.com")?;
/// let judge = |password| policy.check(&Password::parse(password).unwrap(), &email);
/// assert!(judge("correct horse battery").is_ok());
/// assert_eq!(judge("P4ssw0rd!").unwrap_err(), PasswordError::Common);
/// assert_eq!(judge("ada.lovelace1").unwrap_err(), PasswordError::Personal);
/// assert_eq!(judge("12121212").unwrap_err(), PasswordError::Pattern);
/// # Ok::<_, nats_rpc_auth::EmailError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct PasswordPolicy {
    min_chars: usize,
    words: Vec<String>,
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl PasswordPolicy {
    /// Creates a policy of at least 8 characters, without words of its own.
    pub fn new() -> Self {
        Self { min_chars: MIN_CHARS, words: Vec::new() }
    }

    /// Sets the minimum number of characters, clamped to 8..=64. Default: 8; NIST requires 15 if the password is the
    /// only factor.
    pub fn min_chars(mut self, chars: usize) -> Self {
        self.min_chars = chars.clamp(MIN_CHARS, 64);
        self
    }

    /// Rejects passwords derived from `word`, such as the name of the product. Words under 4 characters are ignored.
    pub fn forbid(mut self, word: impl AsRef<str>) -> Self {
        self.words.push(word.as_ref().to_lowercase());
        self
    }

    /// Checks that the owner of `email` may use `password`. If the address is unknown (`None`), a password derived
    /// from it is not detected.
    ///
    /// # Errors
    /// [`PasswordError::TooFew`], [`PasswordError::Personal`], [`PasswordError::Pattern`] or
    /// [`PasswordError::Common`], in this order.
    pub fn check<'a>(&self, password: &Password, email: impl Into<Option<&'a Email>>) -> Result<(), PasswordError> {
        if password.0.chars().count() < self.min_chars {
            return Err(PasswordError::TooFew { at_least: self.min_chars });
        }
        // Compatibility forms, such as fullwidth letters, are checked as the letters that they look like. The hashed
        // password stays unchanged: existing passwords must verify.
        let mut compatible = Zeroizing::new(String::with_capacity(MOST_GROWTH * password.0.len()));
        compatible.extend(password.0.nfkc());
        let lower = Zeroizing::new(compatible.to_lowercase());
        if self.is_personal(&lower, email.into().map_or("", Email::as_str)) {
            return Err(PasswordError::Personal);
        }
        if is_pattern(&lower) {
            return Err(PasswordError::Pattern);
        }
        if is_common(&lower) {
            return Err(PasswordError::Common);
        }
        Ok(())
    }

    fn is_personal(&self, lower: &str, email: &str) -> bool {
        let (local, domain) = email.split_once('@').unwrap_or((email, ""));
        let parts = local.split(['.', '_', '-', '+']).chain(domain.split('.'));
        let words = [email, local, domain].into_iter().chain(parts).chain(self.words.iter().map(String::as_str));
        let made_of = |word: &str| {
            // The rest beside the word would be guessed along with it.
            word.chars().count() >= MIN_WORD
                && lower.contains(word)
                && lower.chars().count() - word.chars().count() < MIN_WORD
        };
        email.contains(lower) || words.into_iter().any(made_of)
    }
}

/// Returns `true` if the whole is one short sequence repeated, a sequence of neighbours, or a stretch of a keyboard.
fn is_pattern(lower: &str) -> bool {
    let chars = Zeroizing::new(lower.chars().collect::<Vec<char>>());
    let repeats = |unit: usize| chars.iter().zip(chars.iter().skip(unit)).all(|(a, b)| a == b);
    // `MIN_CHARS` characters contain each unit at least twice.
    if (1..=MAX_UNIT).any(repeats) {
        return true;
    }
    let runs =
        |step: i64| chars.windows(2).all(|pair| i64::from(u32::from(pair[1])) - i64::from(u32::from(pair[0])) == step);
    if runs(1) || runs(-1) {
        return true;
    }
    let backwards = Zeroizing::new(lower.chars().rev().collect::<String>());
    KEYBOARD.iter().any(|row| row.contains(lower) || row.contains(backwards.as_str()))
}

/// Returns `true` if the list contains the whole, or the whole without a few digits and signs around it.
fn is_common(lower: &str) -> bool {
    let core = lower.trim_matches(|c: char| !c.is_alphabetic());
    let decoration = lower.len() - core.len();
    let listed =
        |text: &str| COMMON.contains(text) || ['i', 'l'].into_iter().any(|one| is_listed_as_spelled(text, one));
    // Digits at an end may be letters, as in `5unshine`.
    listed(lower)
        || (decoration <= MOST_DECORATION && listed(core))
        || listed(lower.trim_end_matches(|c: char| !c.is_alphanumeric()))
}

/// Returns `true` if the list contains `text` with its digits and signs replaced by the letters that they look like.
fn is_listed_as_spelled(text: &str, one: char) -> bool {
    let mut letters = Zeroizing::new(String::with_capacity(4 * MAX_BYTES));
    letters.extend(text.chars().map(|c| match c {
        '0' => 'o',
        '1' | '!' | '|' => one,
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }));
    COMMON.contains(letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(password: &str) -> Result<(), PasswordError> {
        let email = Email::parse("ada.lovelace@analytical.example").unwrap();
        PasswordPolicy::new().forbid("nats-rpc").check(&Password::parse(password).unwrap(), &email)
    }

    #[test]
    fn password_14_what_many_have_is_refused_in_all_its_disguises() {
        for common in [
            "password",
            "PASSWORD",
            "Password1",
            "password2026!",
            "P@ssw0rd",
            "p4$$w0rd",
            "123password",
            "5unshine",
            "5unshine?",
            "letmein123",
            "1q2w3e4r",
            "iloveyou!",
            "Qwerty123",
            "admin1234",
            "changeme",
            "trustno1",
            "Contrasena1",
            "dragon99",
            "m0nkey12",
            "w3lcome!!",
            "abc12345",
            // Fullwidth, mathematical and circled letters.
            "ｐａｓｓｗｏｒｄ",
            "Ｐ＠ssｗ0rd",
            "𝐩𝐚𝐬𝐬𝐰𝐨𝐫𝐝",
            "ⓛⓔⓣⓜⓔⓘⓝ123",
        ] {
            assert_eq!(judge(common), Err(PasswordError::Common), "{common}");
        }
    }

    #[test]
    fn password_14_address_and_service_are_no_password() {
        for personal in [
            "ada.lovelace@analytical.example",
            "ADA.Lovelace",
            "lovelace1",
            "Lovelace!99",
            "analytical",
            "nats-rpc",
            "Nats-RPC-1",
            "nats-rpc99",
            "lovelace@ana",
            "ｌｏｖｅｌａｃｅ1",
        ] {
            assert_eq!(judge(personal), Err(PasswordError::Personal), "{personal}");
        }
    }

    #[test]
    fn a_pattern_is_refused_whatever_its_length() {
        for pattern in [
            "12345678",
            "87654321",
            "1234567890",
            "abcdefgh",
            "ZYXWVUTSR",
            "aaaaaaaa",
            "12121212",
            "xyzxyzxyz",
            "abcdabcdabc",
            "qwertyui",
            "poiuytrew",
            "1qaz2wsx3e",
            &"a".repeat(71),
            "１２３４５６７８",
        ] {
            assert_eq!(judge(pattern), Err(PasswordError::Pattern), "{pattern}");
        }
    }

    #[test]
    fn what_is_neither_is_allowed_without_rules_of_composition() {
        for good in [
            "correct horse battery",
            "onlylowercaseletters",
            "83 91 27 66",
            "lovelace wrote programs",
            "password is not the whole of it",
            "nats-rpc in the small hours",
            "lovelace-7q9",
            "?/&%()=+",
            "žluťoučký kůň",
            "🐴🔋📎 and more",
            "password8473920165",
        ] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn the_fewest_characters_are_counted_as_characters() {
        let email = Email::parse("a@b").unwrap();
        let judge = |policy: PasswordPolicy, text: &str| policy.check(&Password::parse(text).unwrap(), &email);
        // 28 bytes, 7 characters.
        assert_eq!(judge(PasswordPolicy::new(), "🐴🔋📎🦀🚀🧂🪵"), Err(PasswordError::TooFew { at_least: 8 }));
        let strict = PasswordPolicy::new().min_chars(15);
        assert_eq!(judge(strict.clone(), "correct horse"), Err(PasswordError::TooFew { at_least: 15 }));
        assert!(judge(strict, "correct horse battery").is_ok());
    }

    #[test]
    fn the_list_is_sorted_lower_case_and_says_nothing_twice() {
        let words: Vec<_> = include_str!("common.txt").lines().skip(1).collect();
        assert!(words.is_sorted_by(|a, b| a < b));
        assert!(words.iter().all(|word| *word == word.to_lowercase().trim() && !word.is_empty()));
        assert!(words.len() > 800);
    }
}
