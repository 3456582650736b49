//! Headers of the framework and of nats-server, with values that the attacker chooses.

use crate::testing::attacks::attack::{Attack, Expected};
use crate::testing::attacks::target::{CANARY_TEXT, Target};
use crate::testing::attacks::wire::Message;
use crate::wire::stream::STREAM_HEADER;
use crate::{DEADLINE_HEADER, TIMEOUT_HEADER};

/// Texts instead of a number.
const NUMBERS: [&str; 9] =
    ["", "-1", "NaN", "Infinity", "1e99", "0x10", " 7 ", "18446744073709551615", "18446744073709551616"];
/// Headers that carry more than a number.
const TEXTS: [(&str, &str); 8] = [
    (STREAM_HEADER, "open 18446744073709551616"),
    (STREAM_HEADER, "cancel"),
    (STREAM_HEADER, "item 1"),
    (STREAM_HEADER, "\u{1f980}"),
    ("traceparent", "00-00000000000000000000000000000000-0000000000000000-ff"),
    ("Nats-Service-Error-Code", "500"),
    ("Status", "503"),
    ("Nats-Expected-Last-Sequence", "0"),
];

pub(super) fn attacks(target: &Target) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let mut survive = |name: String, line: &str| {
        attacks.push(Attack::survived(format!("header: {name}"), target, target.with_header(line)));
    };
    for header in [DEADLINE_HEADER, TIMEOUT_HEADER] {
        for number in NUMBERS {
            survive(format!("`{header}: {number}`"), &format!("{header}: {number}"));
        }
        survive(format!("`{header}` twice"), &format!("{header}: 60000\r\n{header}: 1"));
    }
    for (header, text) in TEXTS {
        survive(format!("`{header}: {text}`"), &format!("{header}: {text}"));
    }
    // The parser of some clients reads the second part as a separate header.
    for (header, value) in [
        ("authorization", format!("Bearer {CANARY_TEXT}")),
        (DEADLINE_HEADER, "1".to_owned()),
        (STREAM_HEADER, "open 16".to_owned()),
    ] {
        survive(format!("a line feed and `{header}`"), &format!("attacks: a\n{header}: {value}"));
    }
    // nats-server sets this header on messages of a stream. A request does not come from a stream.
    let forwarded = Message { reply: target.inbox().into_bytes(), ..target.with_header("Nats-Sequence: 1") };
    let inbox = String::from_utf8_lossy(&forwarded.reply).into_owned();
    let name = "header: a message that a stream forwards";
    attacks.push(Attack::new(name, forwarded.publish(), Expected::Silence(inbox)));
    attacks
}
