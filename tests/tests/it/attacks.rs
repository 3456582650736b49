//! Hostile cases, each by its id beside what is let through: the file `tests/fixtures/attacks.json`, and
//! those of our own, whose ids begin with `own-`.
//!
//! A case sends what the file says was built, over NATS to a guarded handler or through the running
//! services, and asserts the refusal: its code, its one uniform body, and that no handler was called. At
//! least one control differs from it in one property and passes; a case without one fails.
//!
//! Where the design decided otherwise than the file, the design is what is expected:
//!
//! | id | the file | here |
//! |---|---|---|
//! | `keys-04` | a bundle signed by an offline root | there is no root; NATS permissions refuse the write |
//! | `source-11` | a subject that only the gateway may publish to | no subject is trusted; an assertion is needed |
//! | `source-14` | a guard on the module | a start that refuses an unguarded handler unless it is `#[public]` |
//! | `password-07` | the same answer as for a new address | 409, and sign-ups are rate-limited |
//! | `nats-10` | an auth callout that is down | no auth callout is used: not applicable |
//!
//! Run one part of it with `ATTACKS=jwt-header`, or a single case with its id.

mod capture;
mod echoed_values;
mod forge;
mod guarded;
mod harness;
mod jwt_claims;
mod jwt_header;
mod jwt_signature;
mod keys;
mod nats;
mod password;
mod refresh;
mod revocation;
mod services;
mod source;

use std::collections::BTreeSet;
use std::io::Write;

use serde::Deserialize;

use self::harness::{Outcome, Verdict};

const FILE: &str = include_str!("../../fixtures/attacks.json");

#[derive(Deserialize)]
struct Listed {
    id: String,
    name: String,
}

#[test]
fn every_hostile_case_is_refused_and_every_control_passes() {
    let listed: Vec<Listed> = serde_json::from_str(FILE).unwrap();
    let mut outcomes = capture::runtime().block_on(async {
        let parts = tokio::join!(
            jwt_header::run(),
            jwt_signature::run(),
            jwt_claims::run(),
            source::run(),
            refresh::run(),
            password::run(),
            nats::run(),
            revocation::run(),
            keys::run(),
        );
        // Last, as it looks at what all others have logged.
        let last = nats::log_leakage().await;
        <[Vec<Outcome>; 9]>::from(parts).into_iter().flatten().chain(last).collect::<Vec<_>>()
    });
    let place = |id: &str| listed.iter().position(|case| case.id == id).unwrap_or(usize::MAX);
    outcomes.sort_by_key(|outcome| (place(outcome.id), outcome.id));

    let mut out = std::io::stdout().lock();
    for Outcome { id, verdict, took } in &outcomes {
        let name = listed.iter().find(|case| case.id == *id).map_or("", |case| case.name.as_str());
        // Past the capture of the test harness: which cases ran is to be seen also where all is well.
        writeln!(out, "{id:<26} {verdict:<32} {:>6} ms  {name}", took.as_millis()).unwrap();
    }
    drop(out);

    let failed: Vec<_> = outcomes
        .iter()
        .filter(|outcome| matches!(outcome.verdict, Verdict::Failed(_)))
        .map(|outcome| outcome.id)
        .collect();
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:?}", failed.len(), outcomes.len());

    if harness::wanted().is_none() {
        let ran: BTreeSet<_> = outcomes.iter().map(|outcome| outcome.id).collect();
        assert_eq!(ran.len(), outcomes.len(), "an id has two cases");
        let known: BTreeSet<_> = listed.iter().map(|case| case.id.as_str()).collect();
        let missing: Vec<_> = known.difference(&ran).collect();
        assert!(missing.is_empty(), "ids of the file without a case: {missing:?}");
        let unknown: Vec<_> = ran.difference(&known).filter(|id| !id.starts_with("own-")).collect();
        assert!(unknown.is_empty(), "cases without an id in the file: {unknown:?}");
    }
}
