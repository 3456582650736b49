//! Reply subjects that the attacker chooses, to which a service would publish with its own permissions.

use crate::testing::attacks::attack::{Attack, Expected};
use crate::testing::attacks::bucket::Bucket;
use crate::testing::attacks::target::{NEST_ID, Target};
use crate::testing::attacks::wire::Message;
use crate::wire::stream::STREAM_HEADER;
use crate::{DEADLINE_HEADER, TIMEOUT_HEADER};

/// Subjects that look like an inbox but are none, and subjects that belong to others.
const OTHERS: [&str; 10] = [
    "$SYS.REQ.SERVER.PING",
    "$SRV.PING",
    "nats_rpc_attacks.another.service",
    "_INBOXx.attacks",
    "_INBOX",
    "_inbox.attacks",
    "_INBOX_.attacks",
    "_R_x.attacks",
    "_INBOX.*.attacks",
    "_INBOX.attacks.>",
];
/// Subjects to which a reply may be published. nats-server accepts the third form, `_R_.…`, from no client.
const INBOXES: [&str; 2] = ["_INBOX.attacks.allowed", "_INBOX_attacks.allowed"];

/// Returns the subjects at which a reply means that an attack succeeded, and all inboxes.
pub(in crate::testing::attacks) fn watched(target: &str) -> Vec<String> {
    hostile(target).into_iter().chain(["_INBOX.>", "_INBOX_attacks.>"].map(str::to_owned)).collect()
}

/// Returns `true` for a message of the suite itself: it has a reply subject of the suite.
///
/// A service publishes without a reply subject, or with one in its own inbox.
pub(in crate::testing::attacks) fn is_own(message: &Message, target: &Target) -> bool {
    let reply = &*message.reply;
    reply.starts_with(b"_INBOX.attacks.")
        || INBOXES.iter().any(|inbox| reply == inbox.as_bytes())
        || hostile(&target.subject).iter().any(|hostile| reply == hostile.as_bytes())
}

pub(super) fn attacks(target: &Target, bucket: &Bucket) -> Vec<Attack> {
    let send = |name: String, request: Message, reply: &str, expected: fn(String) -> Expected| {
        let request = Message { reply: reply.as_bytes().to_vec(), ..request };
        Attack::new(name, request.publish(), expected(reply.to_owned()))
    };
    let mut attacks = Vec::new();
    for reply in INBOXES {
        attacks.push(send(format!("control: reply to `{reply}`"), target.request(), reply, Expected::Success));
    }
    let of_bucket = Bucket::hostile_replies();
    for reply in hostile(&target.subject).into_iter().filter(|reply| bucket.exists() || !of_bucket.contains(reply)) {
        for (form, request) in forms(target) {
            attacks.push(send(format!("reply to `{reply}`: {form}"), request, &reply, Expected::Silence));
        }
    }
    attacks
}

fn hostile(target: &str) -> Vec<String> {
    let others = OTHERS.map(str::to_owned);
    Bucket::hostile_replies().into_iter().chain([target.to_owned()]).chain(others).collect()
}

/// Returns requests to which a service replies in different ways: in the handler, before it, in a stream, and on
/// `$SRV`.
fn forms(target: &Target) -> Vec<(&'static str, Message)> {
    let envelope = format!(r#"{},{},"id":"{NEST_ID}""#, target.pattern_member(), target.data_member());
    let discovery = |subject: &str| Message { subject: subject.as_bytes().to_vec(), ..Message::default() };
    let mut forms = vec![
        ("a valid request", target.request()),
        ("a malformed payload", target.with_payload(b"{\"attacks\":")),
        ("a deadline that has passed", target.with_header(&format!("{DEADLINE_HEADER}: 1"))),
        ("a timeout of 0 ms", target.with_header(&format!("{TIMEOUT_HEADER}: 0"))),
        ("a stream", target.with_header(&format!("{STREAM_HEADER}: open 16"))),
        ("an envelope of NestJS", target.envelope(&envelope)),
        ("a `$SRV.PING`", discovery("$SRV.PING")),
        ("a `$SRV.INFO`", discovery("$SRV.INFO")),
        ("a `$SRV.STATS`", discovery("$SRV.STATS")),
    ];
    if target.token.is_some() {
        forms.push(("no token", target.with_tokens(&[], target.payload.as_bytes())));
    }
    forms
}
