//! Messages as large as nats-server accepts.

use crate::testing::attacks::attack::{Attack, Expected};
use crate::testing::attacks::target::Target;
use crate::testing::attacks::wire::{Message, header_block};

/// nats-server accepts 4,096 bytes of a protocol line, including the sizes at its end.
const LONGEST_LINE: usize = 4_000;

pub(super) fn attacks(target: &Target) -> Vec<Attack> {
    let max = target.max_payload;
    let mut attacks = Vec::new();
    let mut survive = |name: &str, request| attacks.push(Attack::survived(format!("size: {name}"), target, request));
    let headers = |lines: Vec<String>| Message { headers: header_block(lines), ..target.request() };

    let space = max.saturating_sub(target.request().headers.len() + 2);
    survive("a payload of `max_payload`", target.with_payload(format!("\"{}\"", "x".repeat(space)).as_bytes()));
    survive("a payload above `max_payload`", target.with_payload(&vec![b'x'; max + 1]));
    let room = max.saturating_sub(target.payload.len() + 64);
    survive("a header of `max_payload`", headers(vec![format!("attacks: {}", "x".repeat(room))]));
    let many = (0..(room / 16).min(20_000)).map(|number| format!("a{number}: x")).collect();
    survive("20,000 headers", headers(many));
    survive("64 KiB of one header name", headers(vec![format!("{}: x", "n".repeat((64 * 1024).min(room)))]));

    let below = |length: usize| format!("{}.{}", target.subject, "s".repeat(length)).into_bytes();
    survive("a subject of 1,000 bytes more", Message { subject: below(1_000), ..target.request() });
    let longest = LONGEST_LINE.saturating_sub(target.subject.len() + 64);
    survive("a subject as long as a line", Message { subject: below(longest), ..target.request() });

    // A reply needs a longer line than its request, and nats-server drops a connection whose line is too long.
    for length in [1_000, longest] {
        let reply = format!("_INBOX.attacks.{}", "r".repeat(length));
        let request = Message { reply: reply.into_bytes(), ..target.request() };
        let name = format!("size: a reply subject of {length} bytes");
        attacks.push(Attack::new(name, request.publish(), Expected::Survival(target.inbox())));
    }
    attacks
}
