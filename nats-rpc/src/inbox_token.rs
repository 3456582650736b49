//! Tokens and ids of reply subjects, which a peer cannot guess.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use nuid::NUID;

/// Issues a token for each expected reply, and recognizes the tokens that it issued.
///
/// A peer that has the token of a call can reply to it. A token is a number and its tag: a SipHash-1-3 of the number,
/// with a key of 128 bits from the operating system. A peer that has seen other tokens still has to guess 64 bits. A
/// receiver recognizes its own tokens without storing them, so it can distinguish a late reply from a guessed token.
#[derive(Default)]
pub(crate) struct InboxTokens {
    key: RandomState,
    next: AtomicU64,
}

/// A token that this process issued: its number among all tokens of its issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InboxToken(u64);

impl InboxTokens {
    /// Issues a token that no other call has.
    pub(crate) fn issue(&self) -> InboxToken {
        InboxToken(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the text of a token, which is one token of a subject.
    pub(crate) fn text(&self, token: InboxToken) -> impl fmt::Display {
        let tag = self.tag(token);
        fmt::from_fn(move |f| write!(f, "{:x}-{tag:016x}", token.0))
    }

    /// Returns the token at the end of `subject`, if this issuer issued it.
    pub(crate) fn recognize(&self, subject: &str) -> Option<InboxToken> {
        let text = subject.rsplit('.').next()?;
        let (number, tag) = text.split_once('-')?;
        let token = InboxToken(u64::from_str_radix(number, 16).ok()?);
        let is_issued = token.0 < self.next.load(Ordering::Relaxed);
        (is_issued && u64::from_str_radix(tag, 16) == Ok(self.tag(token))).then_some(token)
    }

    fn tag(&self, token: InboxToken) -> u64 {
        self.key.hash_one(token.0)
    }
}

/// Returns an id that peers may learn: no other id of the process can be computed from it.
///
/// An id of [`nuid::next`] differs from the previous one by a number from 33 to 332. async-nats uses such ids as the
/// tokens of its own requests, whose replies contain data of buckets. So every id that leaves the process comes from a
/// separate generator, with twelve random characters. Such ids occur in inboxes, on `$SRV` and in tokens.
pub fn unrelated_id() -> String {
    NUID::new().next().to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn issued_tokens_are_recognized_and_differ() {
        let tokens = InboxTokens::default();
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            let token = tokens.issue();
            let text = tokens.text(token).to_string();
            assert_eq!(tokens.recognize(&format!("_INBOX.x.{text}")), Some(token));
            assert!(!text.contains('.') && seen.insert(text), "two calls have one token");
        }
    }

    #[test]
    fn an_id_that_leaves_the_process_tells_no_other() {
        let prefix = |id: &str| id[..12].to_owned();
        let (own, other) = (prefix(&nuid::next()), prefix(&nuid::next()));
        assert_eq!(own, other, "the control: ids of the process have their prefix in common");
        let ids: HashSet<_> = (0..100).map(|_| prefix(&unrelated_id())).chain([own]).collect();
        assert_eq!(ids.len(), 101);
    }

    #[test]
    fn guessed_tokens_are_not_recognized() {
        let (tokens, others) = (InboxTokens::default(), InboxTokens::default());
        let token = tokens.issue();
        let foreign = others.text(others.issue()).to_string();
        let text = tokens.text(token).to_string();
        let tag = text.split_once('-').map(|(_, tag)| tag).unwrap();
        // A tag of another number, one that has not been issued yet, and the tag alone.
        for guess in
            ["0", "1", "0-0", "0-", "-", "", &foreign, &format!("1-{tag}"), &format!("{}-{tag}", u64::MAX), tag]
        {
            assert_eq!(tokens.recognize(guess), None, "{guess:?}");
        }
        let next = tokens.text(InboxToken(1)).to_string();
        assert_eq!(tokens.recognize(&next), None, "a token is recognized once it is issued");
        assert_eq!(tokens.recognize(&text), Some(token));
    }
}
