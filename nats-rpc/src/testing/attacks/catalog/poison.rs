//! Bytes that have broken NATS clients: headers, subjects and reply subjects that no client library sends.

use crate::testing::attacks::attack::{Attack, Expected};
use crate::testing::attacks::target::Target;
use crate::testing::attacks::wire::Message;

/// Header blocks, exactly as on the wire.
const HEADERS: [(&str, &[u8]); 19] = [
    ("a bare CR in a value", b"NATS/1.0\r\na: b\rc\r\n\r\n"),
    ("a bare CR at the end of a value", b"NATS/1.0\r\na: b\r\r\n\r\n"),
    ("a bare LF in a value", b"NATS/1.0\r\na: b\nc\r\n\r\n"),
    ("NUL in a value", b"NATS/1.0\r\na: b\0c\r\n\r\n"),
    ("a value that is not UTF-8", b"NATS/1.0\r\na: \xff\xfe\r\n\r\n"),
    ("a name that is not UTF-8", b"NATS/1.0\r\n\xff: a\r\n\r\n"),
    ("a name with a space", b"NATS/1.0\r\na b: c\r\n\r\n"),
    ("an empty name", b"NATS/1.0\r\n: c\r\n\r\n"),
    ("a header without a colon", b"NATS/1.0\r\nabc\r\n\r\n"),
    ("a folded value", b"NATS/1.0\r\na: b\r\n c\r\n\r\n"),
    ("no version", b"a: b\r\n\r\n"),
    ("another version", b"NATS/9.9\r\na: b\r\n\r\n"),
    ("no end", b"NATS/1.0\r\na: b"),
    ("nothing but empty lines", b"\r\n\r\n"),
    ("a status that is no number", b"NATS/1.0 abc\r\n\r\n"),
    ("a status of 99999", b"NATS/1.0 99999\r\n\r\n"),
    ("a forged 503", b"NATS/1.0 503\r\n\r\n"),
    ("a forged 100 with a reply subject", b"NATS/1.0 100 FlowControl Request\r\n\r\n"),
    ("a forged 408", b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: -1\r\n\r\n"),
];
/// Ends of a subject, appended to the handler's subject.
const SUBJECTS: [(&str, &[u8]); 4] = [
    ("bytes that are not UTF-8", b".\xff"),
    ("a no-break space", b".\xc2\xa0"),
    ("NUL", b".\0"),
    ("an empty token", b"..x"),
];
/// Reply subjects.
const REPLIES: [(&str, &[u8]); 3] = [
    ("bytes that are not UTF-8", b"_INBOX.attacks.\xff"),
    ("a no-break space", b"_INBOX.attacks.\xc2\xa0"),
    ("empty tokens", b"_INBOX.attacks...a."),
];

pub(super) fn attacks(target: &Target) -> Vec<Attack> {
    let headers = HEADERS.iter().map(|(name, headers)| {
        let request = Message { headers: headers.to_vec(), ..target.request() };
        Attack::survived(format!("poison: headers with {name}"), target, request)
    });
    let subjects = SUBJECTS.iter().flat_map(|(name, end)| {
        let subject = [target.subject.as_bytes(), end].concat();
        let request = Message { subject, ..target.request() };
        let with_headers = Message { headers: b"NATS/1.0\r\na: b\r\n\r\n".to_vec(), ..request.clone() };
        [("", request), (" and headers", with_headers)]
            .map(|(more, request)| Attack::survived(format!("poison: a subject with {name}{more}"), target, request))
    });
    let replies = REPLIES.iter().map(|(name, reply)| {
        let request = Message { reply: reply.to_vec(), ..target.request() };
        let survived = Expected::Survival(target.inbox());
        Attack::new(format!("poison: a reply subject with {name}"), request.publish(), survived)
    });
    headers.chain(subjects).chain(replies).collect()
}
