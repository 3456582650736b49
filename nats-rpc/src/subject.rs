//! Subjects and patterns: text that is validated once, on input.

use std::fmt;

/// The maximum length of a subject or pattern, in bytes.
///
/// nats-server drops a connection whose control line is longer than 4 KiB. A subject shares that line with a reply
/// subject and a queue group.
pub const MAX_SUBJECT_LEN: usize = 1_000;

/// Subject trees that belong to nats-server and its clients.
const RESERVED: [&str; 4] = ["$SRV", "$JS", "$SYS", "_INBOX"];

/// A concrete NATS subject: no wildcard, no empty token, no white space.
///
/// As a handler's argument it is the subject that the message was published to:
///
/// ```
/// use nats_rpc::prelude::*;
///
/// #[event_pattern("audit.>")]
/// async fn audit(subject: Subject) {
///     tracing::info!(%subject, "seen");
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Subject(async_nats::Subject);

impl Subject {
    /// Validates `text` and creates a subject from it.
    ///
    /// # Errors
    /// - [`SubjectError::Empty`], [`SubjectError::TooLong`]: its length is 0 or above [`MAX_SUBJECT_LEN`].
    /// - [`SubjectError::WhiteSpace`]: it contains white space or a control character.
    /// - [`SubjectError::EmptyToken`]: it starts or ends with a dot, or contains two in a row.
    /// - [`SubjectError::Wildcard`]: a token is `*` or `>`; only patterns have wildcards.
    ///
    /// ```
    /// use nats_rpc::Subject;
    ///
    /// assert!(Subject::new("users.42.get").is_ok());
    /// assert!(Subject::new("users..get").is_err());
    /// assert!(Subject::new("users.*.get").is_err());
    /// ```
    pub fn new(text: impl AsRef<str>) -> Result<Self, SubjectError> {
        let text = text.as_ref();
        check_tokens(text)?;
        match text.split('.').find(|token| matches!(*token, "*" | ">")) {
            Some(_) => Err(SubjectError::Wildcard(text.to_owned())),
            None => Ok(Self(text.into())),
        }
    }

    /// Validates `text` and creates the prefix of a service's subjects from it.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and [`SubjectError::Reserved`] if the first token begins with `$`, is `_R_` or
    /// begins with `_INBOX`. Requests would be mixed with messages of nats-server or with replies.
    pub(crate) fn prefix(text: impl AsRef<str>) -> Result<Self, SubjectError> {
        let subject = Self::new(text)?;
        let first = subject.as_str().split('.').next().unwrap_or_default();
        match first.starts_with('$') || first == "_R_" || first.starts_with("_INBOX") {
            true => Err(SubjectError::Reserved(subject.to_string())),
            false => Ok(subject),
        }
    }

    /// Returns the subject as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Wraps a subject that came from nats-server, which has already validated it.
    pub(crate) fn received(subject: async_nats::Subject) -> Self {
        Self(subject)
    }

    pub(crate) fn into_nats(self) -> async_nats::Subject {
        self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The pattern of a handler: a subject, with wildcards and named parameters.
///
/// `users.{id}.get` subscribes to `users.*.get` and names the second token `id`. A text that begins with `{"` is a
/// NestJS object pattern such as `{"cmd":"sum"}`, and is used literally.
///
/// ```
/// use nats_rpc::Pattern;
///
/// let pattern = Pattern::parse("users.{id}.get")?;
/// assert_eq!(pattern.subject(), "users.*.get");
/// assert!(pattern.matches("users.42.get"));
/// assert!(pattern.overlaps(&Pattern::parse("users.>")?));
/// # Ok::<_, nats_rpc::SubjectError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    subject: String,
    params: Vec<Parameter>,
    wildcard: bool,
}

/// A named token of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// The index of the token in the subject, from 0.
    pub(crate) token: usize,
}

impl Pattern {
    /// Validates `text` and creates a pattern from it.
    ///
    /// # Errors
    /// Those of [`Subject::new`] except wildcards, and:
    /// - [`SubjectError::Wildcard`]: `*` or `>` is part of a longer token, or `>` is not the last token.
    /// - [`SubjectError::Parameter`]: a brace that is not `{name}` as a whole token, with a name like a
    ///   Rust identifier, used once.
    /// - [`SubjectError::Reserved`]: the first token is `$SRV`, `$JS`, `$SYS` or `_INBOX`.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        check_tokens(text)?;
        if text.starts_with("{\"") {
            let subject = text.to_owned();
            return Ok(Self { subject, params: Vec::new(), wildcard: false });
        }
        let mut tokens: Vec<&str> = text.split('.').collect();
        if RESERVED.contains(&tokens[0]) {
            return Err(SubjectError::Reserved(text.to_owned()));
        }
        let last = tokens.len() - 1;
        let mut params: Vec<Parameter> = Vec::new();
        for (index, token) in tokens.iter_mut().enumerate() {
            if let Some(name) = parameter_name(token) {
                let name = name.ok_or_else(|| SubjectError::Parameter(text.to_owned()))?;
                if params.iter().any(|known| known.name == name) {
                    return Err(SubjectError::Parameter(text.to_owned()));
                }
                params.push(Parameter { name: name.to_owned(), token: index });
                *token = "*";
            } else if *token == ">" && index == last || *token == "*" {
                continue;
            } else if token.contains(['*', '>']) {
                return Err(SubjectError::Wildcard(text.to_owned()));
            }
        }
        let wildcard = tokens.iter().any(|token| matches!(*token, "*" | ">"));
        Ok(Self { subject: tokens.join("."), params, wildcard })
    }

    /// Returns the subject to subscribe to, with `*` for each parameter.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns `true` if `subject` matches this pattern.
    pub fn matches(&self, subject: &str) -> bool {
        if !self.wildcard {
            return self.subject == subject;
        }
        let mut wanted = self.subject.split('.');
        let mut given = subject.split('.');
        loop {
            match (wanted.next(), given.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some("*"), Some(_)) => {}
                (Some(wanted), Some(given)) if wanted == given => {}
                _ => return false,
            }
        }
    }

    /// Returns `true` if some subject matches both patterns.
    pub fn overlaps(&self, other: &Self) -> bool {
        overlaps(&self.subject, &other.subject)
    }

    /// Returns the same pattern below `prefix`, for staging and for tests that share a server.
    pub(crate) fn prefixed(mut self, prefix: &Subject) -> Self {
        let shift = prefix.as_str().split('.').count();
        self.subject = format!("{prefix}.{}", self.subject);
        for parameter in &mut self.params {
            parameter.token += shift;
        }
        self
    }

    /// Returns `true` if it matches exactly one subject.
    pub(crate) fn is_literal(&self) -> bool {
        !self.wildcard
    }

    pub(crate) fn params(&self) -> &[Parameter] {
        &self.params
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)
    }
}

/// The reason why a text is not a valid subject or pattern; each variant contains the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// The text is empty.
    #[error("a subject cannot be empty")]
    Empty,
    /// The text is longer than [`MAX_SUBJECT_LEN`] bytes.
    #[error("a subject of {0} bytes is too long: at most {MAX_SUBJECT_LEN}")]
    TooLong(usize),
    /// White space or a control character.
    #[error("{0:?} holds white space or a control character: NATS subjects have none")]
    WhiteSpace(String),
    /// A dot at either end, or two in a row.
    #[error("{0:?} has an empty token: remove the dot too many")]
    EmptyToken(String),
    /// A wildcard in a position where none is allowed.
    #[error("{0:?}: `*` and `>` stand as whole tokens of a pattern, and `>` only as the last")]
    Wildcard(String),
    /// A brace that does not form a named parameter.
    #[error("{0:?}: a parameter is a whole token such as `{{id}}`, named once, like a Rust identifier")]
    Parameter(String),
    /// A first token that belongs to nats-server or its clients.
    #[error("{0:?} begins with a token that NATS reserves: choose another")]
    Reserved(String),
    /// A prefix of reply subjects that begins with `$`.
    #[error(
        "{0:?} begins with `$`, so it cannot be a prefix of reply subjects: replies would reach nats-server itself"
    )]
    ReplyPrefix(String),
}

/// Returns `true` if some subject matches both `one` and `other`, in which `*` and `>` are wildcards.
pub(crate) fn overlaps(one: &str, other: &str) -> bool {
    let (mut ours, mut theirs) = (one.split('.'), other.split('.'));
    loop {
        match (ours.next(), theirs.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(ours), Some(theirs)) if ours == theirs => {}
            _ => return false,
        }
    }
}

fn check_tokens(text: &str) -> Result<(), SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty);
    }
    if text.len() > MAX_SUBJECT_LEN {
        return Err(SubjectError::TooLong(text.len()));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(SubjectError::WhiteSpace(text.to_owned()));
    }
    if text.split('.').any(str::is_empty) {
        return Err(SubjectError::EmptyToken(text.to_owned()));
    }
    Ok(())
}

/// Returns `Some(Some(name))` for `{name}`, `Some(None)` for a token with malformed braces, `None` without braces.
fn parameter_name(token: &str) -> Option<Option<&str>> {
    if !token.contains(['{', '}']) {
        return None;
    }
    let name = token.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    Some(name.filter(|name| {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    }))
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_no_wildcard_white_space_or_empty_token() {
        for good in ["a", "a.b", "{\"cmd\":\"sum\"}", "42", "a*b"] {
            assert!(Subject::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\r\nb", "a.*", ">", "a\u{a0}b", "a\0"] {
            assert!(Subject::new(bad).is_err(), "{bad:?}");
        }
        assert!(Subject::new("x".repeat(MAX_SUBJECT_LEN)).is_ok());
        assert_eq!(Subject::new("x".repeat(1_001)), Err(SubjectError::TooLong(1_001)));
    }

    #[test]
    fn parameters_become_wildcards_and_keep_their_place() {
        let pattern = Pattern::parse("users.{id}.posts.{post}").unwrap();
        assert_eq!(pattern.subject(), "users.*.posts.*");
        assert_eq!(pattern.to_string(), "users.*.posts.*");
        let places: Vec<_> = pattern.params().iter().map(|p| (p.name.as_str(), p.token)).collect();
        assert_eq!(places, [("id", 1), ("post", 3)]);
        let prefixed = pattern.prefixed(&Subject::new("staging.eu").unwrap());
        assert_eq!(prefixed.subject(), "staging.eu.users.*.posts.*");
        assert_eq!(prefixed.params()[0].token, 3);
    }

    #[test]
    fn patterns_refuse_what_nats_would_misread() {
        for bad in [
            "a.>.b",
            "a*",
            "a.>b",
            "{id",
            "id}",
            "a.{}",
            "a.{1}",
            "a.{x-y}",
            "a.{x}.{x}",
            "a.{x}y",
            "$SRV.PING",
            "_INBOX.a",
            "$JS.API",
            "$SYS.x",
        ] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        for good in ["a.{_}", "a.{_x}", "a.{x_1}"] {
            assert_eq!(Pattern::parse(good).unwrap().subject(), "a.*", "{good}");
        }
        assert_eq!(Pattern::parse(r#"{"cmd":"sum"}"#).unwrap().subject(), r#"{"cmd":"sum"}"#);
    }

    #[test]
    fn overlap_means_a_subject_that_matches_both() {
        let overlap = |a: &str, b: &str| {
            let (a, b) = (Pattern::parse(a).unwrap(), Pattern::parse(b).unwrap());
            assert_eq!(a.overlaps(&b), b.overlaps(&a));
            a.overlaps(&b)
        };
        assert!(overlap("a.b", "a.b"));
        assert!(overlap("over.a", "over.*"));
        assert!(overlap("a.*.c", "*.b.*"));
        assert!(overlap("a.>", "*.b.c.d"));
        assert!(!overlap("a.>", "a"));
        assert!(!overlap("a.*", "a.b.c"));
        assert!(!overlap("a.b", "a.c"));
    }

    #[test]
    fn matching_follows_nats() {
        let matches = |p: &str, s: &str| Pattern::parse(p).unwrap().matches(s);
        assert!(matches("a.*", "a.b") && matches("a.>", "a.b.c") && matches("a", "a"));
        assert!(!matches("a.*", "a.b.c") && !matches("a.>", "a") && !matches("a", "b"));
    }
}
