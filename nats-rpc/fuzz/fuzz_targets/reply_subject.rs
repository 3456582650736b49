#![no_main]
//! An allowed reply subject is an inbox by its first token, or is below an added prefix.

use libfuzzer_sys::fuzz_target;
use nats_rpc::{MAX_SUBJECT_LEN, ReplySubjects};

fn is_inbox(subject: &str) -> bool {
    let Some((first, rest)) = subject.split_once('.') else { return false };
    let is_word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let named = first.strip_prefix("_INBOX_").is_some_and(is_word);
    !rest.is_empty() && (named || matches!(first, "_INBOX" | "_R_"))
}

fuzz_target!(|texts: (&str, &str)| {
    let (subject, prefix) = texts;
    let sound = subject.len() <= MAX_SUBJECT_LEN && !subject.contains(['*', '>']);
    assert_eq!(ReplySubjects::default().allows(subject), sound && is_inbox(subject));
    // The reply subjects of interest are seldom found by chance.
    for form in ["_INBOX.", "_INBOX_", "_R_.", "_INBOX"] {
        let subject = format!("{form}{subject}");
        let sound = subject.len() <= MAX_SUBJECT_LEN && !subject.contains(['*', '>']);
        assert_eq!(ReplySubjects::default().allows(&subject), sound && is_inbox(&subject));
    }
    if let Ok(replies) = ReplySubjects::default().with_prefix(prefix) {
        assert!(!prefix.starts_with('$') && !prefix.is_empty() && !prefix.contains(char::is_whitespace));
        let below = subject.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
        let below = below.is_some_and(|rest| !rest.is_empty());
        assert_eq!(replies.allows(subject), sound && (is_inbox(subject) || below));
        assert!(!replies.allows(prefix) || is_inbox(prefix));
    }
});
