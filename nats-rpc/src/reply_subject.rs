//! The rule for reply subjects: to which of them this process publishes.
//!
//! A peer chooses the reply subject of its message, and the replying process publishes there with its own permissions.
//! Without a check, a service is a confused deputy: the reply subject `$JS.API.STREAM.PURGE.KV_users` makes it purge a
//! bucket that the caller may not access. So a reply subject is input, and is checked like a payload before anything
//! is published to it. This module decides for replies and errors of handlers, frames of streams in both directions,
//! and `$SRV`.

use std::time::{Duration, Instant};

use crate::log_limit::LogLimit;
use crate::subject::{MAX_SUBJECT_LEN, Pattern, Subject, SubjectError};

/// The longest first token that the log repeats, in bytes.
const MAX_LOGGED: usize = 64;

/// The reply subjects that a service or a client publishes to.
///
/// These are inboxes:
///
/// | form | used by |
/// |---|---|
/// | `_INBOX.…` | every NATS client by default |
/// | `_INBOX_<word>.…`, a word of letters, digits, `-` and `_` | clients with an inbox of their own, such as those of this crate |
/// | `_R_.…` | nats-server, for a request that crosses accounts |
/// | `<prefix>.…` | clients with another inbox prefix, once it has been added here |
///
/// A service rejects a request with any other reply subject; see [`Service::reply_prefix`](crate::Service::reply_prefix).
/// Use it before you publish to a reply subject yourself, outside of a handler's reply:
///
/// ```
/// use nats_rpc::ReplySubjects;
///
/// let replies = ReplySubjects::default().with_prefix("shop.replies")?;
/// for inbox in ["_INBOX.kZ1.7", "_INBOX_users.kZ1.7", "_R_.a.b", "shop.replies.kZ1.7"] {
///     assert!(replies.allows(inbox));
/// }
/// for other in ["$JS.API.STREAM.PURGE.KV_users", "$KV.users.1", "orders.delete", "_INBOXx.y"] {
///     assert!(!replies.allows(other));
/// }
/// # Ok::<_, nats_rpc::SubjectError>(())
/// ```
#[derive(Debug)]
pub struct ReplySubjects {
    /// The added prefixes, each with a trailing dot.
    prefixes: Vec<String>,
    /// The subjects of handlers that would be allowed otherwise.
    handlers: Vec<String>,
    log: LogLimit,
}

impl Default for ReplySubjects {
    fn default() -> Self {
        Self { prefixes: Vec::new(), handlers: Vec::new(), log: LogLimit::once_a(Duration::from_secs(60)) }
    }
}

impl ReplySubjects {
    /// Allows all subjects below `prefix` as well.
    ///
    /// # Errors
    /// Those of [`Subject::new`], and [`SubjectError::ReplyPrefix`] if `prefix` begins with `$`.
    pub fn with_prefix(mut self, prefix: impl AsRef<str>) -> Result<Self, SubjectError> {
        let prefix = Subject::new(prefix)?;
        if prefix.as_str().starts_with('$') {
            return Err(SubjectError::ReplyPrefix(prefix.to_string()));
        }
        self.prefixes.push(format!("{prefix}."));
        Ok(self)
    }

    /// Rejects the subjects of the handlers of `patterns`. A pattern with wildcards rejects no inbox.
    pub(crate) fn except<'a>(mut self, patterns: impl IntoIterator<Item = &'a Pattern>) -> Self {
        let literal = patterns.into_iter().filter(|pattern| pattern.is_literal()).map(Pattern::subject);
        // The list is nearly always empty, so the check of a request is cheap.
        self.handlers = literal.filter(|subject| self.allows(subject)).map(ToOwned::to_owned).collect();
        self
    }

    /// Returns `true` if a reply may be published to `subject`.
    ///
    /// A subject that is longer than [`MAX_SUBJECT_LEN`] is never allowed: nats-server drops a connection that sends
    /// a longer line.
    #[inline]
    pub fn allows(&self, subject: &str) -> bool {
        subject.len() <= MAX_SUBJECT_LEN
            && (is_inbox(subject) || self.has_prefix(subject))
            && memchr::memchr2(b'*', b'>', subject.as_bytes()).is_none()
            && (self.handlers.is_empty() || !self.is_of_handler(subject))
    }

    /// The same; logs rejected subjects once a minute.
    pub(crate) fn admit(&self, subject: &str) -> bool {
        let allowed = self.allows(subject);
        if !allowed {
            self.report(subject);
        }
        allowed
    }

    /// Logs, once a minute, that reply subjects were rejected, of which `subject` is one.
    ///
    /// The rest of the subject may be the secret of an inbox, so the line contains only its first token.
    #[cold]
    pub(crate) fn report(&self, subject: &str) {
        let Some(rejected) = self.log.note(Instant::now()) else { return };
        let first = subject.split('.').next().unwrap_or_default();
        let prefix = &first[..first.floor_char_boundary(MAX_LOGGED)];
        let bytes = subject.len();
        tracing::warn!(
            ?prefix,
            bytes,
            rejected,
            "rejected a reply subject: it is not an inbox, or it is too long; if callers use an inbox prefix of their \
             own, add it to NATS_REPLY_PREFIXES or with `Service::reply_prefix`"
        );
    }

    #[cold]
    fn has_prefix(&self, subject: &str) -> bool {
        self.prefixes.iter().any(|prefix| subject.len() > prefix.len() && subject.starts_with(prefix.as_str()))
    }

    #[cold]
    fn is_of_handler(&self, subject: &str) -> bool {
        self.handlers.iter().any(|handler| handler == subject)
    }
}

/// Returns `true` if the first token of `subject` is that of an inbox, and a second one follows.
fn is_inbox(subject: &str) -> bool {
    let Some(rest) = subject.strip_prefix("_INBOX") else {
        return subject.strip_prefix("_R_.").is_some_and(|rest| !rest.is_empty());
    };
    match rest.as_bytes() {
        [b'.', _, ..] => true,
        [b'_', named @ ..] => {
            let word = named.iter().take_while(|byte| is_of_word(**byte)).count();
            word > 0 && matches!(named[word..], [b'.', _, ..])
        }
        _ => false,
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn inboxes_are_allowed_and_other_subjects_are_not() {
        let replies = ReplySubjects::default();
        for inbox in ["_INBOX.x", "_INBOX.x.1", "_INBOX_users.x.1", "_INBOX_a-b_C9.x", "_INBOX__.x", "_R_.a", "_R_.a.b"]
        {
            assert!(replies.allows(inbox), "{inbox}");
        }
        for other in [
            "",
            "_INBOX",
            "_INBOX.",
            "_INBOX_",
            "_INBOX_.x",
            "_INBOX_a",
            "_INBOX_a.",
            "_INBOX_a b.x",
            "_INBOX_ü.x",
            "_INBOX_$.x",
            "_INBOXx.y",
            "_inbox.x",
            "x._INBOX.1",
            "_R_",
            "_R_.",
            "_R_x.y",
            "_RR_.y",
            "_INBOX.*",
            "_INBOX.>",
            "_R_.>",
            "users.delete",
            "$SRV.PING",
            "$KV.b.k",
            "$JS.API.STREAM.PURGE.KV_b",
            "$SYS.REQ.USER.INFO",
            "auth.audit.x",
            r#"{"cmd":"sum"}"#,
        ] {
            assert!(!replies.allows(other), "{other:?}");
        }
        assert!(replies.allows(&format!("_INBOX.{}", "x".repeat(MAX_SUBJECT_LEN - 7))));
        assert!(!replies.allows(&format!("_INBOX.{}", "x".repeat(MAX_SUBJECT_LEN - 6))));
    }

    #[test]
    fn added_prefixes_are_literal_and_allow_what_is_below() {
        let replies = ReplySubjects::default().with_prefix("shop.replies").unwrap();
        for (subject, allowed) in [
            ("shop.replies.x", true),
            ("shop.replies.x.y", true),
            ("shop.replies", false),
            ("shop.replies.", false),
            ("shop.replies.*", false),
            ("shop.repliesx.y", false),
            ("shop.x", false),
            ("_INBOX.x", true),
        ] {
            assert_eq!(replies.allows(subject), allowed, "{subject}");
        }
        for bad in ["", "*", "a.*", ">", "a.>", "a..b", ".a", "a b", "$KV", "$JS.API", "$"] {
            assert!(ReplySubjects::default().with_prefix(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn literal_handler_subjects_are_not_allowed() {
        let patterns = [">", "*.*", "_INBOX_x.delete", "users.get"].map(|text| Pattern::parse(text).unwrap());
        let replies = ReplySubjects::default().except(&patterns);
        assert!(!replies.allows("_INBOX_x.delete"));
        assert!(replies.allows("_INBOX_x.other") && replies.allows("_INBOX.x") && !replies.allows("users.get"));
    }

    proptest! {
        #[test]
        fn whatever_is_allowed_has_one_of_the_forms(
            subject in "(_INBOX|_R_|_INBOX_|_IN|\\$KV|app|_INBOX_a)?[._a-zA-Z$*> -]{0,8}(\\.[a-z0-9]{0,3}){0,3}|.{0,12}",
        ) {
            let replies = ReplySubjects::default().with_prefix("app").unwrap();
            let (first, rest) = subject.split_once('.').unwrap_or((&subject, ""));
            let named = first.strip_prefix("_INBOX_").is_some_and(|word| {
                !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            });
            let form = named || matches!(first, "_INBOX" | "_R_" | "app");
            let expected = form && !rest.is_empty() && !subject.contains(['*', '>']);
            prop_assert_eq!(replies.allows(&subject), expected);
        }
    }
}
