//! Passwords: what a log-in costs, and how another one is chosen.

use std::sync::{Arc, Mutex};

use ::auth::account::{AccountKey, Accounts};
use async_nats::Subscriber;
use futures::{FutureExt, StreamExt};
use nats_rpc::Connection;
use nats_rpc_auth::{Email, Password, PasswordConfig, PasswordHasher};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber as Listener};

use super::*;
use crate::support::PATIENCE;

pub(super) const RESET_SUBJECT: &str = "mail.password_reset";
pub(super) const OTHER: &str = "incorrect horse battery";

fn key(email: &str) -> AccountKey {
    AccountKey::of(&Email::parse(email).unwrap())
}

async fn accounts(bed: &Bed) -> Accounts {
    Accounts::open(&Connection::open(&bed.system.nats_of("auth")).await.unwrap()).await.unwrap()
}

/// The costs of all hashing that this thread's services began, in order.
#[derive(Clone, Default)]
struct Hashing(Arc<Mutex<Vec<String>>>);

impl Hashing {
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Listener for Hashing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "nats_rpc_auth::password"
    }

    fn event(&self, event: &Event<'_>) {
        struct Cost(Option<String>);
        impl Visit for Cost {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "cost" {
                    self.0 = Some(format!("{value:?}").replace('"', ""));
                }
            }
        }
        let mut cost = Cost(None);
        event.record(&mut cost);
        self.0.lock().unwrap().extend(cost.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_look_and_cost_the_same() {
    let hashing = Hashing::default();
    // While there is only one listener, tracing asks the thread that comes to a place first whether anybody
    // listens there, and another test's thread would say no for good.
    let _another = tracing::Dispatch::new(Hashing::default());
    let _listening = tracing::subscriber::set_default(hashing.clone());
    let bed = Bed::start().await;
    for known in ["wrong@example.com", "locked@example.com", "ruined@example.com"] {
        bed.sign_up(known).await;
    }
    let accounts = accounts(&bed).await;
    accounts.lock(&key("locked@example.com")).await.unwrap();
    let ruined = accounts.find(&key("ruined@example.com")).await.unwrap().unwrap();
    let ruinous = ruined.password_hash.replacen("$10$", "$31$", 1);
    accounts.replace_password(&key("ruined@example.com"), &ruined, &ruinous).await.unwrap().unwrap();
    assert_eq!(hashing.taken(), ["10", "10", "10"], "one for each sign-up");

    let mut answers = Vec::new();
    // The password is right for the two accounts that nobody can log in to.
    for (email, password) in [
        ("nobody@example.com", PASSWORD),
        ("wrong@example.com", "incorrect horse"),
        ("locked@example.com", PASSWORD),
        ("ruined@example.com", PASSWORD),
        ("no address", PASSWORD),
    ] {
        let request = bed.http.post(format!("{}/api/auth/login", bed.system.gateway_url()));
        let response = soon(request.json(&json!({ "email": email, "password": password })).send()).await.unwrap();
        let status = response.status().as_u16();
        let mut headers = response.headers().clone();
        let _ = (headers.remove("x-request-id"), headers.remove("date"));
        answers.push((status, format!("{headers:?}"), response.bytes().await.unwrap()));
        assert_eq!(hashing.taken(), ["10"], "{email}");
    }
    assert_eq!(answers[0].0, 401);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
}

#[tokio::test]
async fn passwords_that_are_guessed_first_cannot_be_chosen_and_the_answer_says_why() {
    let bed = Bed::start().await;
    for (password, reason) in [
        ("Password123!", "common"),
        ("ada.lovelace", "personal"),
        ("ada.lovelace@example.com", "personal"),
        ("nats-rpc-auth", "personal"),
        ("abcdefgh", "pattern"),
        ("short", "too_short"),
        (&"a long password ".repeat(5), "too_long"),
    ] {
        let body = json!({ "email": "ada.lovelace@example.com", "password": password });
        let (status, refused) = bed.post("/api/auth/signup", None, &body).await;
        assert_eq!((status, &refused["details"]["reason"]), (400, &json!(reason)), "{password}: {refused}");
    }
    bed.sign_up("ada.lovelace@example.com").await;
}

pub(super) async fn change(bed: &Bed, token: &str, current: &str, new: &str) -> (u16, Value) {
    let body = json!({ "currentPassword": current, "newPassword": new });
    bed.post("/api/auth/password/change", Some(token), &body).await
}

#[tokio::test]
async fn a_change_needs_the_present_password_and_ends_every_session_but_the_new_one() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let (_, elsewhere) = bed.log_in("ada@example.com", PASSWORD).await;

    assert_eq!(change(&bed, "a.b.c", PASSWORD, OTHER).await.0, 401);
    assert_eq!(change(&bed, &ada.access_token, "not the present one", OTHER).await.0, 403);
    let (status, refused) = change(&bed, &ada.access_token, PASSWORD, "password1").await;
    assert_eq!((status, &refused["details"]["reason"]), (400, &json!("common")));
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 200, "nothing has changed so far");

    let (status, changed) = change(&bed, &ada.access_token, PASSWORD, OTHER).await;
    assert_eq!(status, 200, "{changed}");
    for ended in [&ada.refresh_token, elsewhere["refreshToken"].as_str().unwrap()] {
        assert_eq!(bed.refresh(ended).await.0, 401);
    }
    assert_eq!(bed.refresh(changed["refreshToken"].as_str().unwrap()).await.0, 200);
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 401);
    assert_eq!(bed.log_in("ada@example.com", OTHER).await.0, 200);
}

async fn listening(bed: &Bed) -> Subscriber {
    let mails = bed.client.connection().nats().subscribe(RESET_SUBJECT).await.unwrap();
    bed.client.connection().round_trip(PATIENCE).await.unwrap();
    mails
}

async fn request_reset(bed: &Bed, email: &str) -> (u16, Value) {
    bed.post("/api/auth/password/reset/request", None, &json!({ "email": email })).await
}

async fn confirm(bed: &Bed, token: &str, new: &str) -> (u16, Value) {
    let body = json!({ "token": token, "newPassword": new });
    bed.post("/api/auth/password/reset/confirm", None, &body).await
}

/// What the mailer is told next.
async fn mail(mails: &mut Subscriber) -> Value {
    serde_json::from_slice(&soon(mails.next()).await.unwrap().payload).unwrap()
}

pub(super) async fn reset_token(bed: &Bed, email: &str) -> String {
    let mut mails = listening(bed).await;
    assert_eq!(request_reset(bed, email).await.0, 200);
    mail(&mut mails).await["token"].as_str().unwrap().to_owned()
}

pub(super) async fn reset(bed: &Bed, token: &str, new: &str) -> u16 {
    confirm(bed, token, new).await.0
}

#[tokio::test]
async fn a_reset_token_is_good_for_one_use_and_ends_every_session() {
    let bed = Bed::start_with(|options| options.var("PASSWORD_RESET_SUBJECT", RESET_SUBJECT)).await;
    let ada = bed.sign_up("ada@example.com").await;
    let mut mails = listening(&bed).await;
    let mut tokens = Vec::new();
    for _ in 0..2 {
        assert_eq!(request_reset(&bed, " ADA@example.com").await, (200, Value::Null));
        let mail = mail(&mut mails).await;
        assert_eq!((&mail["email"], &mail["userId"]), (&json!("ada@example.com"), &json!(ada.id)));
        assert_eq!(mail["expiresInSeconds"], json!(900));
        tokens.push(mail["token"].as_str().unwrap().to_owned());
    }
    let bucket = bed.client.connection().jetstream().get_key_value("auth_reset").await.unwrap();
    let kept = bucket.keys().await.unwrap().collect::<Vec<_>>().await;
    assert_eq!(kept.len(), 2);
    assert!(!format!("{kept:?}").contains(&tokens[0][5..]), "only hashes are kept");

    // A password that is refused does not use the token up.
    assert_eq!(confirm(&bed, &tokens[0], "ada@example.com").await.1["details"]["reason"], json!("personal"));
    let both = futures::future::join(confirm(&bed, &tokens[0], OTHER), confirm(&bed, &tokens[0], OTHER)).await;
    let mut statuses = [both.0.0, both.1.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
    for used in [tokens[0].as_str(), tokens[1].as_str(), "", "nrp1.AAAA", &ada.refresh_token] {
        assert_eq!(confirm(&bed, used, "yet another password").await.0, 401, "{used}");
    }
    assert_eq!(bed.refresh(&ada.refresh_token).await.0, 401);
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 401);
    assert_eq!(bed.log_in("ada@example.com", OTHER).await.0, 200);
}

#[tokio::test]
async fn asking_for_a_reset_does_not_tell_who_has_an_account() {
    let bed = Bed::start_with(|options| options.var("PASSWORD_RESET_SUBJECT", RESET_SUBJECT)).await;
    bed.sign_up("ada@example.com").await;
    let mut mails = listening(&bed).await;
    let mut answers = Vec::new();
    for email in ["ada@example.com", "nobody@example.com"] {
        let answers_of = futures::stream::iter(0..4).then(|_| request_reset(&bed, email));
        let mut answers_of: Vec<_> = answers_of.collect().await;
        let refused = answers_of.pop().unwrap();
        assert!((1..=60_000).contains(&refused.1["details"]["retryAfterMs"].as_u64().unwrap()), "{refused:?}");
        assert_eq!(refused.0, 429, "mails are bounded");
        answers.push(answers_of);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].iter().all(|answer| *answer == (200, Value::Null)));
    // Both cost the same: a record that expires for each, whoever it is for.
    let bucket = bed.client.connection().jetstream().get_key_value("auth_reset").await.unwrap();
    assert_eq!(bucket.keys().await.unwrap().count().await, 6);
    bed.client.connection().round_trip(PATIENCE).await.unwrap();
    for _ in 0..3 {
        assert_eq!(mail(&mut mails).await["email"], json!("ada@example.com"));
    }
    assert!(mails.next().now_or_never().is_none(), "nobody is written to who has no account");
    assert_eq!(request_reset(&bed, "no address").await.0, 400);
}

#[tokio::test]
async fn without_a_mailer_nobody_is_told_a_token() {
    let bed = Bed::start().await;
    bed.sign_up("ada@example.com").await;
    let mut mails = listening(&bed).await;
    assert_eq!(request_reset(&bed, "ada@example.com").await.0, 404);
    bed.client.connection().round_trip(PATIENCE).await.unwrap();
    assert!(mails.next().now_or_never().is_none());
}

#[tokio::test]
async fn hashing_anew_loses_to_a_change_of_the_password() {
    let bed = Bed::start().await;
    bed.sign_up("ada@example.com").await;
    let accounts = accounts(&bed).await;
    let key = key("ada@example.com");
    let seen = accounts.find(&key).await.unwrap().unwrap();
    let hasher = PasswordHasher::new(PasswordConfig::default().cost(10)).unwrap();
    let hash = async |text: &str| hasher.hash(Password::parse(text).unwrap()).await.unwrap();
    let (changed, anew) = (hash(OTHER).await, hash(PASSWORD).await);

    // A log-in saw the old hash and computes; meanwhile the password is changed; then the log-in writes.
    let replaced = accounts.replace_password(&key, &seen, &changed).await.unwrap().unwrap();
    // Once more, as if its answer had been lost: it took place once.
    let again = accounts.replace_password(&key, &seen, &changed).await.unwrap().unwrap();
    assert_eq!((replaced.epoch, again.epoch), (1, 1));
    accounts.rehash(&key, &seen.password_hash, &anew).await.unwrap();
    assert_eq!(accounts.find(&key).await.unwrap().unwrap().password_hash, changed);
    // Of two changes that saw the same, one wins and the other learns of it.
    assert!(accounts.replace_password(&key, &seen, &anew).await.unwrap().is_none());
    assert_eq!(bed.log_in("ada@example.com", OTHER).await.0, 200);
}

#[tokio::test]
async fn renewed_hash_does_not_overtake_a_change_or_a_reset() {
    let bed = Bed::start_with(|options| options.var("PASSWORD_RESET_SUBJECT", RESET_SUBJECT)).await;
    let ada = bed.sign_up("ada@example.com").await;
    let accounts = accounts(&bed).await;
    let key = key("ada@example.com");
    let hasher = PasswordHasher::new(PasswordConfig::default().cost(10)).unwrap();
    let hash = async |text: &str| hasher.hash(Password::parse(text).unwrap()).await.unwrap();
    let renew = async || {
        let stored = accounts.find(&key).await.unwrap().unwrap().password_hash;
        let anew = hash(PASSWORD).await;
        accounts.rehash(&key, &stored, &anew).await.unwrap();
        assert_eq!(accounts.find(&key).await.unwrap().unwrap().password_hash, anew);
    };

    // A change saw the old hash and computes; meanwhile a log-in renews the hash; then the change writes.
    let seen = accounts.find(&key).await.unwrap().unwrap();
    renew().await;
    let changed = hash(OTHER).await;
    let replaced = accounts.replace_password(&key, &seen, &changed).await.unwrap().expect("no other change");
    assert_eq!((replaced.password_hash, replaced.epoch), (changed, 1));
    assert_eq!(bed.refresh(&ada.refresh_token).await.0, 401);
    let late = hash("yet another password").await;
    assert!(accounts.replace_password(&key, &seen, &late).await.unwrap().is_none(), "the control: a change does");

    // So it is with a reset token that was issued before.
    let back = hash(PASSWORD).await;
    let seen = accounts.find(&key).await.unwrap().unwrap();
    accounts.replace_password(&key, &seen, &back).await.unwrap().unwrap();
    let token = reset_token(&bed, "ada@example.com").await;
    renew().await;
    assert_eq!(reset(&bed, &token, OTHER).await, 200);
    assert_eq!(reset(&bed, &token, "yet another password").await, 401);
}
