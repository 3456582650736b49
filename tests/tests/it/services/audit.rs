//! What auth tells of what it did.

use std::collections::BTreeSet;

use ::auth::account::{AccountKey, Accounts};
use async_nats::Subscriber;
use futures::StreamExt;
use nats_rpc::Connection;
use nats_rpc_auth::{AuditEvent, AuditRecord, Email, Owner, SessionConfig, Sessions};

use super::passwords::{RESET_SUBJECT, reset, reset_token};
use super::*;
use crate::support::PATIENCE;

const ADA: &str = "ada.lovelace@example.com";
const EVE: &str = "eve.of.eden@example.com";

/// What was told below `auth.audit.`, in order.
struct Told {
    subscriber: Subscriber,
    records: Vec<AuditRecord>,
    text: String,
}

impl Told {
    async fn listen(client: &Client) -> Self {
        let subscriber = client.connection().nats().subscribe("auth.audit.>").await.unwrap();
        client.connection().round_trip(PATIENCE).await.unwrap();
        Self { subscriber, records: Vec::new(), text: String::new() }
    }

    /// Does `what`, and waits for the event that it is to be told by; gives what came of it, and the event.
    async fn of<T>(&mut self, name: &str, what: impl Future<Output = T>) -> (T, AuditEvent) {
        let done = what.await;
        let event = self.next(name).await;
        (done, event)
    }

    async fn next(&mut self, name: &str) -> AuditEvent {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.subscriber.next()).await;
            let message = message.unwrap_or_else(|_| panic!("nobody told of {name}")).unwrap();
            let record: AuditRecord = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(message.subject.as_str(), format!("auth.audit.{}", record.event.name()));
            self.text.push_str(std::str::from_utf8(&message.payload).unwrap());
            self.records.push(record.clone());
            if record.event.name() == name {
                return record.event;
            }
        }
    }

    /// Waits for an event that may have been told before another that was waited for.
    async fn also(&mut self, name: &str, is_it: impl Fn(&AuditEvent) -> bool) {
        while !self.records.iter().any(|record| record.event.name() == name && is_it(&record.event)) {
            self.next(name).await;
        }
    }

    fn names(&self) -> BTreeSet<&str> {
        self.records.iter().map(|record| record.event.name()).collect()
    }
}

/// Names of events of an earlier version, which are still read.
const OLD_NAMES: [&str; 2] = ["session_displaced", "realm_revoked"];

/// Every event that is defined: the error of an unknown event lists them all.
fn defined() -> BTreeSet<String> {
    let error = serde_json::from_value::<AuditEvent>(json!({ "event": "?" })).unwrap_err().to_string();
    let names = error.split('`').skip(1).step_by(2).filter(|name| *name != "?" && !OLD_NAMES.contains(name));
    names.map(str::to_owned).collect()
}

fn text(answer: &Value, field: &str) -> String {
    answer[field].as_str().unwrap_or_else(|| panic!("no {field} in {answer}")).to_owned()
}

#[tokio::test]
async fn every_event_that_is_defined_is_told_where_it_happens_and_no_secret_is() {
    let server = server();
    // Told before the system runs, as it tells of its first key when it starts.
    let mut told = Told::listen(&client(&server).await).await;
    let bed = Bed::start_on(server, |server| {
        let options = Options::new(nats(server)).var("JWT_REFRESH_SECRET", REFRESH_SECRET);
        options.var("GATEWAY_TIMEOUT_MS", "30000").var("PASSWORD_RESET_SUBJECT", RESET_SUBJECT)
    })
    .await;
    let connection = Connection::open(&bed.system.nats_of("auth")).await.unwrap();
    told.next("key_published").await;
    let AuditEvent::KeyRotated { kid: first_key } = told.next("key_rotated").await else { unreachable!() };

    // What users do.
    let (ada, _) = told.of("signed_up", bed.sign_up(ADA)).await;
    let (_, event) = told.of("log_in_refused", bed.log_in(ADA, "wrong")).await;
    let AuditEvent::LogInRefused { account, user, source } = event else { unreachable!() };
    assert_eq!((user.as_ref(), source.map(|hash| hash.len())), (Some(&ada.id), Some(43)));
    let guesses = async { while bed.log_in(ADA, "wrong").await.0 != 429 {} };
    let (_, event) = told.of("throttled", guesses).await;
    let AuditEvent::Throttled { account: throttled, .. } = event else { unreachable!() };
    assert_eq!(account, throttled, "an account has one name, whatever the event");
    let (_, event) = told.of("log_in_refused", bed.log_in("nobody.at.all@example.com", "wrong horse battery")).await;
    assert!(matches!(event, AuditEvent::LogInRefused { user: None, .. }), "{event:?}");

    let (mailed, event) = told.of("password_reset_requested", reset_token(&bed, ADA)).await;
    assert!(matches!(event, AuditEvent::PasswordResetRequested { account: Some(_), user: Some(_), .. }), "{event:?}");
    told.of("password_reset", async { assert_eq!(reset(&bed, &mailed, "another horse battery").await, 200) }).await;
    let ((_, session), _) = told.of("logged_in", bed.log_in(ADA, "another horse battery")).await;
    let change = json!({ "currentPassword": "another horse battery", "newPassword": PASSWORD });
    let access = text(&session, "accessToken");
    let change = bed.post("/api/auth/password/change", Some(&access), &change);
    let ((status, changed), _) = told.of("password_changed", change).await;
    assert_eq!(status, 200, "{changed}");
    let last = json!({ "refreshToken": changed["refreshToken"] });
    told.of("logged_out", bed.post("/api/auth/logout", None, &last)).await;

    let (_, begun) = bed.log_in(ADA, PASSWORD).await;
    let (_, second) = bed.refresh(&text(&begun, "refreshToken")).await;
    let (_, third) = bed.refresh(&text(&second, "refreshToken")).await;
    let again = bed.refresh(begun["refreshToken"].as_str().unwrap());
    assert_eq!(told.of("token_reused", again).await.0.0, 401);
    let (_, everywhere) = bed.log_in(ADA, PASSWORD).await;
    let token = text(&everywhere, "accessToken");
    told.of("logged_out_everywhere", bed.post("/api/auth/logout-all", Some(&token), &json!({}))).await;

    // One session more than one may have, of which the log-ins would take long.
    let pepper = SecretKey::new("JWT_REFRESH_SECRET", REFRESH_SECRET).unwrap();
    let sessions = Sessions::open(&connection, SessionConfig::new(&pepper)).await.unwrap();
    let mut begun_before = BTreeSet::new();
    for _ in 0..50 {
        begun_before.insert(sessions.create(Owner::new(&ada.id, "an account")).await.unwrap().session.id);
    }
    let (_, event) = told.of("session_evicted", bed.log_in(ADA, PASSWORD)).await;
    let AuditEvent::SessionEvicted { user, sid } = event else { unreachable!() };
    assert!(user == ada.id && begun_before.contains(&sid), "{sid} of {user}");

    // What services with a credential do.
    let add = bed.command(&["services", "add", "abuse-desk", "introspect", "revoke"]);
    let (credential, event) = told.of("service_added", add).await;
    assert_eq!(event, AuditEvent::ServiceAdded { service: "abuse-desk".into(), scope: "introspect revoke".into() });
    let desk = bed.client.bearer(&credential);
    let ask = async |subject: &'static str, what: Value| soon(desk.send::<Value>(subject, &what)).await.unwrap();
    let (_, stolen) = bed.log_in(ADA, PASSWORD).await;
    let (_, event) = told.of("token_revoked", ask("auth.revoke", json!({ "token": stolen["accessToken"] }))).await;
    let AuditEvent::TokenRevoked { jti } = event else { unreachable!() };
    assert!(!jti.is_empty() && !text(&stolen, "accessToken").contains(&jti), "an id, no part of the token");
    let known = ask("auth.introspect", json!({ "token": stolen["refreshToken"] })).await;
    let sid = text(&known, "sid");
    let (_, event) = told.of("session_revoked", ask("auth.revoke", json!({ "sid": sid }))).await;
    assert_eq!(event, AuditEvent::SessionRevoked { sid: sid.clone(), user: Some(ada.id.clone()) });
    let (_, event) = told.of("session_revoked", ask("auth.revoke", json!({ "sid": sid }))).await;
    assert_eq!(event, AuditEvent::SessionRevoked { sid, user: None });
    // A secret in the wrong place is refused or passed over, and not told.
    ask("auth.revoke", json!({ "sid": stolen["refreshToken"] })).await;
    desk.send::<Value>("auth.revoke", &json!({ "jti": stolen["accessToken"] })).await.unwrap_err();
    told.of("logged_out_everywhere", ask("auth.revoke", json!({ "sub": ada.id }))).await;
    told.of("service_removed", bed.command(&["services", "remove", "abuse-desk"])).await;

    // What operators do.
    let user = Some(&ada.id);
    for (words, name) in [
        (&["roles", "grant", ADA, "editor"][..], "role_granted"),
        (&["roles", "revoke", ADA, "editor"], "role_revoked"),
        (&["users", "lock", ADA], "user_locked"),
        (&["users", "unlock", ADA], "user_unlocked"),
        (&["users", "log-out", ADA], "logged_out_everywhere"),
    ] {
        let (_, event) = told.of(name, bed.command(words)).await;
        assert_eq!(serde_json::to_value(&event).unwrap()["user"].as_str(), user.map(String::as_str), "{event:?}");
    }
    let (handed_over, event) =
        told.of("password_reset_requested", bed.command(&["password", "reset-token", ADA])).await;
    assert!(matches!(event, AuditEvent::PasswordResetRequested { account: None, user: Some(_), .. }), "{event:?}");
    told.of("password_reset", async { assert_eq!(reset(&bed, &handed_over, "fourth horse battery").await, 200) }).await;
    assert_eq!(reset(&bed, &handed_over, "a fifth horse battery").await, 401, "it is good for one use");
    told.of("user_deleted", bed.command(&["users", "delete", ADA])).await;
    told.of("all_tokens_revoked", bed.command(&["users", "log-out-everybody"])).await;

    bed.command(&["keys", "rotate"]).await;
    told.next("key_published").await;
    let AuditEvent::KeyRotated { kid } = told.next("key_rotated").await else { unreachable!() };
    assert_ne!(kid, first_key);
    let (_, event) = told.of("key_retired", bed.command(&["keys", "retire", &kid])).await;
    assert_eq!(event, AuditEvent::KeyRetired { kid: kid.clone() });
    told.also("key_lost", |event| matches!(event, AuditEvent::KeyLost { kid: lost } if *lost == kid)).await;
    let replaces = |event: &AuditEvent| matches!(event, AuditEvent::KeyRotated { kid: signs } if *signs != kid && *signs != first_key);
    told.also("key_rotated", replaces).await;

    // What nobody should be able to do: a hash that would cost hours.
    bed.sign_up(EVE).await;
    let accounts = Accounts::open(&connection).await.unwrap();
    let key = AccountKey::of(&Email::parse(EVE).unwrap());
    let eve = accounts.find(&key).await.unwrap().unwrap();
    let planted = eve.password_hash.replacen("$10$", "$31$", 1);
    accounts.rehash(&key, &eve.password_hash, &planted).await.unwrap();
    assert_eq!(told.of("password_hash_unusable", bed.log_in(EVE, PASSWORD)).await.0.0, 401);

    let defined = defined();
    assert!(defined.len() > 20, "{defined:?}");
    assert_eq!(told.names(), defined.iter().map(String::as_str).collect(), "each event has who tells it");

    let mut secrets = vec![mailed, handed_over, credential, eve.password_hash, planted];
    secrets.extend([&ada.access_token, &ada.refresh_token].map(Clone::clone));
    for answer in [&session, &changed, &begun, &second, &third, &everywhere, &stolen] {
        secrets.extend([text(answer, "accessToken"), text(answer, "refreshToken")]);
    }
    let words =
        ["lovelace", "eden", "nobody.at.all", "example.com", "horse", "$2b$", "127.0.0.1", "nrt1", "nsc1", "eyJ"];
    secrets.extend(words.map(str::to_owned));
    secrets.push(REFRESH_SECRET.to_owned());
    for secret in secrets {
        assert!(!told.text.contains(&secret), "{secret:?} in {}", told.text);
    }
}
