//! Requests without a valid proof of the caller; only for guarded handlers.

use crate::testing::attacks::attack::Attack;
use crate::testing::attacks::target::{CANARY_TEXT, Target};

/// `{"alg":"none","typ":"JWT"}` and `{"alg":"none","typ":"at+jwt"}`.
const UNSIGNED: [&str; 2] = ["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0"];

pub(super) fn attacks(target: &Target) -> Vec<Attack> {
    let Some(token) = target.token.as_deref() else { return Vec::new() };
    let payload = target.payload.as_bytes();
    let mut attacks = Vec::new();
    let mut reject = |name: &str, request| attacks.push(Attack::rejected(format!("token: {name}"), target, request));

    reject("none", target.with_tokens(&[], payload));
    reject("empty", target.with_tokens(&[""], payload));
    reject("not a token", target.with_tokens(&[CANARY_TEXT], payload));
    reject("64 KiB", target.with_tokens(&[&"e".repeat(64 * 1024)], payload));
    reject("valid, and a second one", target.with_tokens(&[token, CANARY_TEXT], payload));
    reject("another, and the valid one", target.with_tokens(&[CANARY_TEXT, token], payload));
    if let Some((signed, signature)) = token.rsplit_once('.') {
        let claims = signed.split_once('.').map_or("", |(_, claims)| claims);
        reject("without its signature", target.with_tokens(&[&format!("{signed}.")], payload));
        reject("another signature", target.with_tokens(&[&format!("{signed}.{}", other_first(signature))], payload));
        for header in UNSIGNED {
            reject("the algorithm `none`", target.with_tokens(&[&format!("{header}.{claims}.")], payload));
        }
    }
    let user = br#"{"user":{"sub":"attacker","roles":["admin"],"role":"admin"}}"#;
    reject("a `user` in the payload", target.with_tokens(&[], user));
    attacks
}

/// Returns the text with another first character: the last one of base64url may contain bits without meaning.
fn other_first(text: &str) -> String {
    let other = if text.starts_with('A') { "B" } else { "A" };
    let rest: String = text.chars().skip(1).collect();
    format!("{other}{rest}")
}
