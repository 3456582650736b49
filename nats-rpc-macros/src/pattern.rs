//! The pattern of a handler: a subject, validated at compile time.

use proc_macro2::TokenStream;
use quote::ToTokens as _;
use syn::parse::{Parse, ParseStream};
use syn::{Error, LitInt, LitStr, Result, token};

use crate::object::{self, Object};

/// Maximum length in bytes; equal to `nats_rpc::MAX_SUBJECT_LEN`.
const MAX_LEN: usize = 1_000;
/// First tokens that belong to nats-server.
const RESERVED: [&str; 4] = ["$SRV", "$JS", "$SYS", "_INBOX"];
const EXPECTED: &str = "the pattern comes first, as a literal: \"users.{id}.get\", 42 or {\"cmd\": \"sum\"}";

/// A checked pattern.
pub(crate) struct Pattern {
    /// The text of the pattern in the route.
    pub(crate) text: String,
    /// The tokens as written, for errors.
    pub(crate) written: TokenStream,
}

impl Parse for Pattern {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (text, written) = if input.peek(LitStr) {
            let literal: LitStr = input.parse()?;
            (literal.value(), literal.into_token_stream())
        } else if input.peek(LitInt) {
            let literal: LitInt = input.parse()?;
            (object::number(&literal)?, literal.into_token_stream())
        } else if input.peek(token::Brace) {
            let written = input.fork().parse::<proc_macro2::Group>()?.into_token_stream();
            (input.parse::<Object>()?.subject()?, written)
        } else {
            return Err(input.error(EXPECTED));
        };
        match check(&text) {
            Ok(()) => Ok(Self { text, written }),
            Err(message) => Err(Error::new_spanned(written, message)),
        }
    }
}

impl Pattern {
    /// Returns the subject to subscribe to, with `*` for each parameter.
    pub(crate) fn subject(&self) -> String {
        if is_object(&self.text) {
            return self.text.clone();
        }
        let tokens = self.text.split('.').map(|token| if token.starts_with('{') { "*" } else { token });
        tokens.collect::<Vec<_>>().join(".")
    }
}

/// Returns `true` for NestJS's object patterns, which are used literally.
fn is_object(text: &str) -> bool {
    text.starts_with("{\"")
}

/// Returns the reason why `text` is not a valid pattern, if it is not.
fn check(text: &str) -> std::result::Result<(), String> {
    if text.is_empty() {
        return Err("a pattern cannot be empty: write the subject, such as \"users.get\"".to_owned());
    }
    if text.len() > MAX_LEN {
        return Err(format!("a subject of {} bytes is too long: at most {MAX_LEN}", text.len()));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(
            "a subject holds no white space and no control characters: separate words with `.` or `_`".to_owned()
        );
    }
    if text.split('.').any(str::is_empty) {
        return Err("a subject has no empty token: remove the dot too many".to_owned());
    }
    if is_object(text) {
        return match text.split('.').find(|token| matches!(*token, "*" | ">")) {
            Some(token) => Err(format!("`{token}` between dots is a wildcard to NATS: no object pattern can hold it")),
            None => Ok(()),
        };
    }
    let first = text.split('.').next().unwrap_or_default();
    if RESERVED.contains(&first) {
        return Err(format!("subjects under `{first}` belong to nats-server: choose another first token"));
    }
    let mut params = Vec::new();
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        if let Some(name) = token.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).filter(|name| is_name(name))
        {
            if params.contains(&name) {
                return Err(format!("the parameter `{{{name}}}` is given twice: rename one"));
            }
            params.push(name);
        } else if token.contains(['{', '}']) {
            let name = name_like(token);
            return Err(format!("`{token}` is no parameter: between dots, write `{{{name}}}`"));
        } else if token == ">" && tokens.peek().is_some() {
            return Err("`>` stands only at the end: for one token write `*` or `{name}`".to_owned());
        } else if token.contains(['*', '>']) && !matches!(token, "*" | ">") {
            return Err(format!("`{token}` matches nothing but itself: `*` and `>` stand alone between dots"));
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Returns the probably intended name of a token with stray braces.
fn name_like(token: &str) -> String {
    let inside = token.rsplit('{').next().unwrap_or_default();
    let inside = inside.split('}').next().unwrap_or_default();
    let name: String = inside.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.chars().any(|c| c.is_ascii_alphanumeric()) && is_name(&name) { name } else { "name".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_nats_subscribes_to_is_accepted() {
        for good in [
            "a",
            "users.{id}.get",
            "users.{user}.posts.{post_2}",
            "a.*.b",
            "a.>",
            ">",
            "*",
            "42",
            r#"{"cmd":"sum"}"#,
            r#"{"a":"*"}"#,
            "grüße.$x",
            "$KV.a",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_write() {
        let long = "x".repeat(1_001);
        for (bad, why) in [
            ("", "cannot be empty"),
            (&long, "1001 bytes"),
            ("a b", "white space"),
            ("a\u{a0}b", "white space"),
            ("a\0b", "control"),
            (".a", "dot too many"),
            ("a.", "dot too many"),
            ("a..b", "dot too many"),
            (".", "dot too many"),
            ("a.>.b", "`>` stands only at the end"),
            ("a*", "`a*` matches nothing but itself"),
            ("a.b>", "`b>` matches nothing but itself"),
            ("a.{id", "write `{id}`"),
            ("a.id}", "write `{id}`"),
            ("a.x{id}", "write `{id}`"),
            ("a.{user-id}", "write `{user_id}`"),
            ("a.{}", "write `{name}`"),
            ("a.{1}", "write `{name}`"),
            ("a.{x}.{x}", "`{x}` is given twice"),
            ("$SRV.PING", "`$SRV`"),
            ("$JS.API.x", "`$JS`"),
            ("$SYS", "`$SYS`"),
            ("_INBOX.x", "`_INBOX`"),
            (r#"{"a":"x.*.y"}"#, "wildcard"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
