//! Envelopes in NestJS's format that no NestJS client sends.

use crate::testing::attacks::attack::Attack;
use crate::testing::attacks::target::{NEST_ID, Target};

pub(super) fn attacks(target: &Target) -> Vec<Attack> {
    let (pattern, data) = (target.pattern_member(), target.data_member());
    let id = format!(r#""id":"{NEST_ID}""#);
    let huge_id = format!(r#""id":"{}""#, "i".repeat(4 * 1024));
    let mut attacks = Vec::new();
    let mut add = |name: &str, must_reject: bool, members: &[&str]| {
        let (name, request) = (format!("envelope: {name}"), target.envelope(&members.join(",")));
        // For a service of another wire format, an envelope is an ordinary payload.
        let make = if must_reject && target.speaks_nest { Attack::rejected } else { Attack::survived };
        attacks.push(make(name, target, request));
    };

    add("no `id`", true, &[&pattern, &data]);
    add("an `id` of 4 KiB", true, &[&pattern, &data, &huge_id]);
    add("`data` twice", true, &[&pattern, &data, r#""data":null"#, &id]);
    add("`pattern` twice", true, &[&pattern, r#""pattern":"attacks""#, &data, &id]);
    add("`id` twice", true, &[&pattern, &data, r#""id":"x""#, &id]);
    add("an `id` that is an object", false, &[&pattern, &data, r#""id":{"a":[]}"#]);
    add("an `id` of half a surrogate pair", false, &[&pattern, &data, r#""id":"\ud800""#]);
    add("prototype keys", false, &[&pattern, &data, &id, r#""__proto__":{"isAdmin":true}"#, r#""constructor":{}"#]);
    add("prototype keys in `data`", false, &[&pattern, r#""data":{"__proto__":{"isAdmin":true}}"#, &id]);
    add("no `data`", false, &[&pattern, &id]);
    add("no `pattern`", false, &[&data, &id]);
    add("a pattern of another handler", false, &[r#""pattern":"nats_rpc_attacks""#, &data, &id]);
    add("a pattern of 64 levels", false, &[&nested_pattern(64), &data, &id]);
    add("no end", false, &[&pattern, r#""data":{"#, &id]);
    attacks
}

fn nested_pattern(levels: usize) -> String {
    format!(r#""pattern":{}1{}"#, r#"{"a":"#.repeat(levels), "}".repeat(levels))
}
