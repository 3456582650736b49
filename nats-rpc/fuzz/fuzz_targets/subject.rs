#![no_main]
//! What is accepted as a subject or a pattern can be sent, and matching and overlap agree.

use libfuzzer_sys::fuzz_target;
use nats_rpc::{MAX_SUBJECT_LEN, Pattern, Subject};

fn check(accepted: &str) {
    assert!(!accepted.is_empty() && accepted.len() <= MAX_SUBJECT_LEN);
    assert!(!accepted.contains(|c: char| c.is_whitespace() || c.is_control()));
    assert!(accepted.split('.').all(|token| !token.is_empty()));
}

fuzz_target!(|texts: (&str, &str, &str)| {
    let (one, other, subject) = texts;
    let subject = Subject::new(subject).ok();
    let (one, other) = (Pattern::parse(one).ok(), Pattern::parse(other).ok());
    if let Some(subject) = &subject {
        check(subject.as_str());
    }
    for pattern in [&one, &other].into_iter().flatten() {
        check(pattern.subject());
        assert!(pattern.overlaps(pattern));
        let again = Pattern::parse(pattern.subject()).expect("what is subscribed to is a pattern");
        assert_eq!(again.subject(), pattern.subject());
    }
    if let (Some(one), Some(other)) = (&one, &other) {
        assert_eq!(one.overlaps(other), other.overlaps(one));
        if let Some(subject) = &subject {
            let both = one.matches(subject.as_str()) && other.matches(subject.as_str());
            assert!(!both || one.overlaps(other));
        }
    }
});
