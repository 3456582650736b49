#![no_main]
//! E-mail addresses and passwords of any text: one form each, and no panic on the way to it.

use libfuzzer_sys::fuzz_target;
use nats_rpc_auth::{Email, Password, PasswordError, PasswordHasher, PasswordPolicy};
use unicode_normalization::UnicodeNormalization;

fn check_email(text: &str) -> Option<Email> {
    let email = Email::parse(text).ok()?;
    let canonical = email.as_str();
    assert!(canonical.len() <= 254);
    assert_eq!(canonical.matches('@').count(), 1);
    assert!(!canonical.starts_with('@') && !canonical.ends_with('@'));
    assert!(!canonical.contains(|c: char| c.is_whitespace() || c.is_control()));
    assert!(canonical.nfc().eq(canonical.chars()));
    // An address has one form, and one key.
    let again = Email::parse(canonical).expect("the canonical form is an address");
    assert_eq!((again.as_str(), again.key()), (canonical, email.key()));
    assert_eq!(email.key().len(), 43);
    assert!(!format!("{email:?}").contains(canonical));
    Some(email)
}

fn check_password(text: &str, email: Option<&Email>) {
    let normal: String = text.nfc().collect();
    let parsed = Password::parse(text);
    let fits = (8..=71).contains(&normal.len()) && !normal.contains('\0') && text.len() <= 4 * 71;
    assert_eq!(parsed.is_ok(), fits);
    // Composed or not, it is the same password.
    if text.len() <= 4 * 71 && normal.len() <= 4 * 71 {
        assert_eq!(Password::parse(&normal).err(), parsed.as_ref().err().copied());
    }
    let Ok(password) = parsed else { return };
    assert!(!format!("{password:?}").contains(&normal) || "Password([redacted])".contains(&normal));
    let policy = PasswordPolicy::new().forbid("nats-rpc");
    let verdict = policy.check(&password, email);
    if normal.chars().count() < 8 {
        assert!(matches!(verdict, Err(PasswordError::TooFew { at_least: 8, .. })));
    }
    // A stricter policy accepts nothing more.
    let strict = policy.clone().min_chars(15).forbid("another").check(&password, email);
    assert!(verdict.is_ok() || strict.is_err());
}

fuzz_target!(|texts: (&str, &str)| {
    let (address, password) = texts;
    let email = check_email(address);
    check_password(password, email.as_ref());
    // The address itself, and its parts, as a password.
    check_password(address, email.as_ref());
    let _ = PasswordHasher::is_usable(password);
});
