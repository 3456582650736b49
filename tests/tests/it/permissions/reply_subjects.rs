//! Reply subjects that would have a service, or nats-server, publish for whoever sends the request: against the running
//! services with the files that are shipped. Every bucket has to stay byte for byte as it was.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures::{FutureExt, StreamExt};
use nats_rpc_tests::secured::{Layout, Secured};
use serde_json::{Value, json};

use super::{Intruder, granted, of};
use crate::deployed::{Deployed, Trust};
use crate::support::{PATIENCE, soon};

/// Every bucket, and the user that reads it here.
const BUCKETS: [(&str, &str); 9] = [
    ("auth_backoff", "auth"),
    ("auth_jwks", "auth"),
    ("auth_reset", "auth"),
    ("auth_rev", "auth"),
    ("auth_services", "auth"),
    ("auth_sess", "auth"),
    ("auth_users", "auth"),
    ("gw_jwks", "auth"),
    ("users", "users"),
];
/// Users who may send requests, and whom no bucket is entrusted to that they do not write anyway.
const ATTACKERS: [&str; 5] = ["client", "gateway", "monitor", "verifier", "users"];

/// Reply subjects that would do harm.
fn targets() -> Vec<String> {
    let buckets = BUCKETS.iter().flat_map(|(bucket, _)| {
        let purge = format!("$JS.API.STREAM.PURGE.KV_{bucket}");
        [format!("$KV.{bucket}.planted"), format!("$KV.{bucket}.ring"), purge]
    });
    buckets.chain(["auth.audit.logged_in".to_owned(), "_INBOX_auditor.1".to_owned()]).collect()
}

/// All records of all buckets, as those see them who may read them.
struct Buckets(BTreeMap<&'static str, Client>);

/// For each bucket the last sequence, and each message as it is stored.
type Contents = BTreeMap<&'static str, (u64, Vec<Value>)>;

impl Buckets {
    async fn of(secured: &Secured) -> Self {
        let mut readers = BTreeMap::new();
        for (_, user) in BUCKETS {
            if !readers.contains_key(user) {
                readers.insert(user, Intruder::connect(secured, user).await.nats);
            }
        }
        Self(readers)
    }

    async fn contents(&self) -> Contents {
        let mut contents = BTreeMap::new();
        for (bucket, user) in BUCKETS {
            contents.insert(bucket, self.content(bucket, user).await);
        }
        contents
    }

    async fn content(&self, bucket: &str, user: &str) -> (u64, Vec<Value>) {
        let nats = &self.0[user];
        let ask = async |subject: String, body: String| -> Value {
            let reply = soon(nats.request(subject, body.into())).await.unwrap();
            serde_json::from_slice(&reply.payload).unwrap()
        };
        let info = ask(format!("$JS.API.STREAM.INFO.KV_{bucket}"), String::new()).await;
        let (mut records, mut next) = (Vec::new(), 0);
        loop {
            let query = json!({ "seq": next, "next_by_subj": format!("$KV.{bucket}.>") }).to_string();
            let found = ask(format!("$JS.API.STREAM.MSG.GET.KV_{bucket}"), query).await;
            let Some(sequence) = found["message"]["seq"].as_u64() else { break };
            records.push(found["message"].clone());
            next = sequence + 1;
        }
        (info["state"]["last_seq"].as_u64().unwrap(), records)
    }

    /// The buckets that changed since.
    async fn changed_since(&self, before: &Contents) -> Vec<&'static str> {
        let after = self.contents().await;
        before.iter().filter(|(bucket, content)| after[*bucket] != **content).map(|(bucket, _)| *bucket).collect()
    }
}

/// The subjects that `user` may send requests to, with a body for each: of services, or of JetStream's API.
fn requests(layout: Layout, user: &str, of_jetstream: bool) -> Vec<(String, String)> {
    let subjects = granted(of(layout, &user.to_uppercase()), "publish:");
    let is_api = |subject: &str| subject.contains("JS.API.") || subject.starts_with("AUTHJS.");
    let is_wanted = |subject: &&str| {
        let is_service = !subject.starts_with("_INBOX") && !subject.starts_with("$KV.") && !is_api(subject);
        if of_jetstream { is_api(subject) } else { is_service }
    };
    let body = |subject: &str| match subject.rsplit_once(".KV_") {
        Some((verb, bucket)) if verb.ends_with("MSG.GET") => json!({ "last_by_subj": format!("$KV.{bucket}.>") }),
        Some((verb, bucket)) if verb.ends_with("DIRECT.GET") => {
            json!({ "multi_last": [format!("$KV.{bucket}.>")], "batch": 8 })
        }
        _ => Value::Null,
    };
    let concrete = |subject: &str| match subject {
        "$SRV.>" => "$SRV.PING".to_owned(),
        subject => subject.replace('*', "planted"),
    };
    let body = |subject: &str| match body(subject) {
        Value::Null if subject.contains("STREAM.INFO") || subject.starts_with("$SRV") => String::new(),
        // Known to no session: the reply is `null`, which nats-server reads as a request to purge all.
        Value::Null => json!({ "refreshToken": "unknown", "email": "ada@example.com" }).to_string(),
        body => body.to_string(),
    };
    // A consumer takes another body; what it delivers is the business of `deputies`.
    let subjects = subjects.into_iter().filter(is_wanted).filter(|subject| !subject.contains("CONSUMER"));
    subjects.map(|subject| (concrete(subject), body(subject))).collect()
}

/// Whether `user` may write there itself, so that no deputy is needed.
fn may_write(layout: Layout, user: &str, target: &str) -> bool {
    let mut allowed = granted(of(layout, &user.to_uppercase()), "publish:").into_iter();
    allowed.any(|subject| match subject.strip_suffix('>') {
        Some(prefix) => target.starts_with(prefix),
        None => subject == target,
    })
}

/// Has each request of `user` sent with each target as its reply subject.
async fn attack(secured: &Secured, user: &str, of_jetstream: bool) -> usize {
    let nats = Intruder::connect(secured, user).await.nats;
    let requests = requests(secured.layout, user, of_jetstream);
    for target in targets().iter().filter(|target| !may_write(secured.layout, user, target)) {
        for (subject, body) in &requests {
            nats.publish_with_reply(subject.clone(), target.clone(), body.clone().into()).await.unwrap();
        }
        // The control: the same is replied to where the inbox is one. So the messages before it have arrived.
        for (subject, body) in &requests {
            soon(nats.request(subject.clone(), body.clone().into())).await.unwrap();
        }
    }
    requests.len()
}

/// What `user` hears at `subject`.
async fn listen(secured: &Secured, user: &str, subject: &str) -> Subscriber {
    let nats = Intruder::connect(secured, user).await.nats;
    let heard = nats.subscribe(subject.to_owned()).await.unwrap();
    soon(nats.flush()).await.unwrap();
    heard
}

/// Signs up, and waits for all that auth tells of it.
async fn sign_up(system: &Deployed, email: &str, audit: &mut Subscriber) {
    system.sign_up(email).await;
    let mut told: Vec<_> = soon(audit.by_ref().take(2).map(|event| event.subject.to_string()).collect()).await;
    told.sort();
    assert_eq!(told, ["auth.audit.logged_in", "auth.audit.signed_up"]);
}

#[tokio::test]
async fn replies_of_services_change_no_bucket_across_accounts() {
    replies_of_services_change_no_bucket(Layout::Accounts).await;
}

#[tokio::test]
async fn replies_of_services_change_no_bucket_in_one_account() {
    replies_of_services_change_no_bucket(Layout::Single).await;
}

async fn replies_of_services_change_no_bucket(layout: Layout) {
    let system = Deployed::start_on(layout, Trust::Secret).await;
    let buckets = Buckets::of(&system.secured).await;
    let mut audit = listen(&system.secured, layout.auditor(), "auth.audit.>").await;
    sign_up(&system, "ada@example.com", &mut audit).await;
    let mut inbox = listen(&system.secured, "gateway", "_INBOX_gateway.>").await;
    for user in ATTACKERS {
        let before = buckets.contents().await;
        let sent = attack(&system.secured, user, false).await;
        assert_eq!(sent > 0, ["client", "gateway", "monitor"].contains(&user), "{user}");
        let nats = Intruder::connect(&system.secured, user).await.nats;
        for (subject, body) in requests(layout, user, false).into_iter().filter(|_| user != "gateway") {
            nats.publish_with_reply(subject, "_INBOX_gateway.planted", body.into()).await.unwrap();
        }
        system.auth.check(PATIENCE).await.unwrap();
        system.users.check(PATIENCE).await.unwrap();
        // Attempts are counted, whatever becomes of the reply.
        let mut changed = buckets.changed_since(&before).await;
        changed.retain(|bucket| *bucket != "auth_backoff" && *bucket != "auth_reset");
        assert!(changed.is_empty(), "{layout:?}: {user} changed {changed:?}");
    }
    let forged = std::iter::from_fn(|| audit.next().now_or_never().flatten());
    let forged: Vec<_> = forged.filter(|message| message.subject.as_str() == "auth.audit.logged_in").collect();
    assert!(forged.is_empty(), "{layout:?}: {forged:?}");
    // A reply in somebody else's inbox cannot be told from a good one, and has a token that nobody issued.
    let mut heard = std::iter::from_fn(|| inbox.next().now_or_never().flatten());
    let planted = heard.any(|message| message.subject.as_str() == "_INBOX_gateway.planted");
    assert_eq!(planted, layout == Layout::Single, "{layout:?}");
}

#[tokio::test]
async fn accounts_keep_nats_server_from_writing_buckets() {
    let system = Deployed::start_on(Layout::Accounts, Trust::Secret).await;
    let buckets = Buckets::of(&system.secured).await;
    let mut audit = listen(&system.secured, "auditor", "auth.audit.>").await;
    sign_up(&system, "ada@example.com", &mut audit).await;
    for user in ATTACKERS {
        let before = buckets.contents().await;
        let sent = attack(&system.secured, user, true).await;
        assert_eq!(sent > 0, ["gateway", "verifier", "users"].contains(&user), "{user}");
        let changed = buckets.changed_since(&before).await;
        assert!(changed.is_empty(), "{user} changed {changed:?}");
    }
    assert!(audit.next().now_or_never().is_none());
    // The control: what auth tells is heard.
    sign_up(&system, "eve@example.com", &mut audit).await;
}

/// What `docs/security.md` says of one account: whoever may ask for the state of a stream, or for a record, has the
/// reply written into any bucket. It is JSON of nats-server, so it is no key ring, no account and no purge.
#[tokio::test]
async fn single_account_lets_nats_server_write_json_into_buckets() {
    let system = Deployed::start_on(Layout::Single, Trust::Secret).await;
    let signed_up = system.sign_up("ada@example.com").await;
    let buckets = Buckets::of(&system.secured).await;
    for user in ["gateway", "verifier", "users"] {
        let before = buckets.contents().await;
        attack(&system.secured, user, true).await;
        // The other buckets take no long value.
        let wide = ["auth_jwks", "auth_users", "gw_jwks", "users"];
        let is_own = |bucket: &str| may_write(Layout::Single, user, &format!("$KV.{bucket}.planted"));
        let wide = wide.into_iter().filter(|bucket| !is_own(bucket));
        soon(async {
            loop {
                let changed = buckets.changed_since(&before).await;
                if wide.clone().all(|bucket| changed.contains(&bucket)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
    // Nothing was purged, and what was written is in the form of a reply.
    let after = buckets.contents().await;
    let accounts = &after["auth_users"].1;
    assert!(accounts.iter().any(|record| record["subject"] != "$KV.auth_users.planted"), "{signed_up}");
    // Users without a request to JetStream change nothing.
    for user in ["client", "monitor"] {
        let before = buckets.contents().await;
        assert_eq!(attack(&system.secured, user, true).await, 0, "{user}");
        assert!(buckets.changed_since(&before).await.is_empty(), "{user}");
    }
}
