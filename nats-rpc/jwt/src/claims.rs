//! The claims of a token: the standard ones, and those that handlers read.

use std::borrow::Cow;
use std::fmt;

use nats_rpc::Principal;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// The caller: user, session, roles and scopes, as proved by [`JwtGuard`](super::JwtGuard).
///
/// Start with this claims type. When tokens carry more claims, replace it by your own type (`JwtGuard<MyClaims>`,
/// `Auth<MyClaims>`).
///
/// ```
/// use nats_rpc_jwt::UserClaims;
///
/// // In a unit test of a handler, in place of a token:
/// let me = UserClaims::new("0192f0c1").with_roles(["admin"]).with_scope("profile:read");
/// assert!(me.roles.iter().any(|role| role == "admin"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UserClaims {
    /// The user's id: 1 to 256 characters without control characters, otherwise exactly as issued. Never use it
    /// unencoded in a NATS subject or a KV key.
    pub sub: String,
    /// The session's id; logout ends the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Role names, compared exactly.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Scopes, separated by one space each (RFC 6749, section 3.3).
    #[serde(default)]
    pub scope: String,
}

impl UserClaims {
    /// Creates a caller without session, roles or scopes.
    pub fn new(sub: impl Into<String>) -> Self {
        Self { sub: sub.into(), ..Self::default() }
    }

    /// Sets the session id.
    #[must_use]
    pub fn with_sid(mut self, sid: impl Into<String>) -> Self {
        self.sid = Some(sid.into());
        self
    }

    /// Sets the roles.
    #[must_use]
    pub fn with_roles(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.roles = roles.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the scopes, separated by one space each.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = scope.into();
        self
    }
}

impl Principal for UserClaims {
    fn subject(&self) -> &str {
        &self.sub
    }

    fn roles(&self) -> &[String] {
        &self.roles
    }

    fn scope(&self) -> &str {
        &self.scope
    }
}

/// The standard claims that every check uses (RFC 7519, section 4.1, and `sid`, `ep`, `rep`).
///
/// Times are whole seconds: a fraction, a negative number or a string is a type error. A duplicate claim is an error
/// too; a struct detects it and a map does not.
#[derive(Deserialize)]
pub(crate) struct StandardClaims<'a> {
    #[serde(borrow)]
    pub(crate) iss: Option<Cow<'a, str>>,
    pub(crate) aud: Option<Audience>,
    pub(crate) sub: String,
    pub(crate) exp: u64,
    pub(crate) iat: Option<u64>,
    pub(crate) nbf: Option<u64>,
    pub(crate) jti: Option<String>,
    pub(crate) sid: Option<String>,
    /// The user's epoch.
    #[serde(default, rename = "ep")]
    pub(crate) epoch: u64,
    /// The global epoch.
    #[serde(default, rename = "rep")]
    pub(crate) global_epoch: u64,
}

/// `aud`: one audience or a short list of them.
#[derive(Debug, PartialEq)]
pub(crate) struct Audience(Vec<String>);

/// The maximum number of audiences of a token.
const MAX_AUDIENCES: usize = 16;

impl Audience {
    pub(crate) fn contains(&self, audience: &str) -> bool {
        self.0.iter().any(|known| known == audience)
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrFew;

        impl<'de> Visitor<'de> for OneOrFew {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a string or at most {MAX_AUDIENCES} strings")
            }

            fn visit_str<E: de::Error>(self, one: &str) -> Result<Audience, E> {
                Ok(Audience(vec![one.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut few: A) -> Result<Audience, A::Error> {
                let mut audiences = Vec::new();
                while let Some(audience) = few.next_element()? {
                    if audiences.len() == MAX_AUDIENCES {
                        return Err(de::Error::custom("too many audiences"));
                    }
                    audiences.push(audience);
                }
                Ok(Audience(audiences))
            }
        }

        deserializer.deserialize_any(OneOrFew)
    }
}

/// Returns `true` if `sub` is valid: not empty, at most 256 characters, no control characters.
pub(crate) fn is_sound_subject(sub: &str) -> bool {
    !sub.is_empty() && sub.chars().count() <= 256 && !sub.chars().any(char::is_control)
}

/// Returns `true` if a `jti` or `sid` is valid: 1 to 64 characters of visible ASCII.
pub(crate) fn is_sound_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_is_a_string_or_a_short_list_of_strings() {
        let parse = serde_json::from_str::<Audience>;
        assert!(parse(r#""a""#).unwrap().contains("a"));
        assert!(parse(r#"["b","a"]"#).unwrap().contains("a"));
        assert!(!parse("[]").unwrap().contains("a"));
        assert!(!parse(r#""ab""#).unwrap().contains("a"));
        for wrong in ["1", "null", r#"[1]"#, r#"{"a":1}"#] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let many = serde_json::to_string(&vec!["a"; 17]).unwrap();
        assert!(parse(&many).is_err());
    }

    #[test]
    fn subjects_are_kept_as_they_are_unless_they_cannot_be_anyones() {
        let longest = "ü".repeat(256);
        for sound in ["a", "a.>", "*", "x y", "\u{202e}abc", longest.as_str()] {
            assert!(is_sound_subject(sound), "{sound:?}");
        }
        let too_long = "a".repeat(257);
        for unsound in ["", "a\0", "a\nb", "a\u{85}b", too_long.as_str()] {
            assert!(!is_sound_subject(unsound), "{unsound:?}");
        }
    }
}
