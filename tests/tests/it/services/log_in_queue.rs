//! Log-ins at the same moment: right ones wait for their turn, and a flood leaves turns to others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ::auth::account::{Account, AccountKey, Accounts};
use futures::future::{join, join_all};
use nats_rpc::{CallError, Code, Connection};
use nats_rpc_auth::{Email, LoginThrottle, Password, PasswordConfig, PasswordHasher, ThrottleError, ThrottlePolicy};
use nats_rpc_jwt::{CLIENT_IP_HEADER, ClientIpSigner};
use tokio::sync::Notify;

use super::*;

/// Accounts with one password, which is hashed once for all of them.
pub(super) async fn accounts(bed: &Bed, count: usize) -> Vec<String> {
    let accounts = Accounts::open(&Connection::open(&bed.system.nats_of("auth")).await.unwrap()).await.unwrap();
    let hasher = PasswordHasher::new(PasswordConfig::default().cost(10)).unwrap();
    let hash = hasher.hash(Password::parse(PASSWORD).unwrap()).await.unwrap();
    let emails: Vec<_> = (0..count).map(|n| format!("user{n}@example.com")).collect();
    for email in &emails {
        let key = AccountKey::of(&Email::parse(email).unwrap());
        assert!(accounts.create(&key, &Account::new(hash.clone())).await.unwrap());
    }
    emails
}

/// A client whose calls come, as a gateway proves, from `address`.
pub(super) async fn log_in_from(bed: &Bed, address: &str, email: &str, password: &str) -> Result<Value, CallError> {
    let signer = ClientIpSigner::hs256(&SecretKey::new("JWT_ASSERTION_SECRET", ASSERTION_SECRET).unwrap());
    let body = json!({ "email": email, "password": password });
    let proof = signer.sign(address.parse().unwrap(), "auth.login", body.to_string().as_bytes()).unwrap();
    bed.client.header(CLIENT_IP_HEADER, proof).send("auth.login", &body).await
}

pub(super) fn status(outcome: &Result<Value, CallError>) -> u16 {
    outcome.as_ref().map_or_else(|error| error.code().unwrap().status(), |_| 200)
}

/// The status of a log-in through the gateway, which may take as long as a busy machine needs.
async fn patient_log_in(bed: &Bed, email: &str) -> u16 {
    let request = bed.http.post(format!("{}/api/auth/login", bed.system.gateway_url()));
    request.json(&json!({ "email": email, "password": PASSWORD })).send().await.unwrap().status().as_u16()
}

/// Thirty users of one office: none of their passwords is wrong.
#[tokio::test]
async fn right_log_ins_of_one_address_at_once_all_succeed() {
    let bed = Bed::start_with(|options| options.var("GATEWAY_TIMEOUT_MS", "60000")).await;
    let emails = accounts(&bed, 30).await;
    let statuses = join_all(emails.iter().map(|email| patient_log_in(&bed, email))).await;
    assert_eq!(statuses, [200; 30]);
    // Nothing counts against the address: a wrong password is the first one.
    assert_eq!(bed.log_in(&emails[0], guesses::WRONG).await.0, 401);
    assert_eq!(bed.log_in(&emails[0], PASSWORD).await.0, 200);
}

#[tokio::test]
async fn sign_ups_of_one_address_at_once_all_succeed() {
    let bed = Bed::start().await;
    let sign_up = async |n: usize| {
        let body = json!({ "email": format!("user{n}@example.com"), "password": PASSWORD });
        bed.post("/api/auth/signup", None, &body).await.0
    };
    assert_eq!(join_all((0..12).map(sign_up)).await, [201; 12]);
}

/// More attempts at one account than may fail: they take turns, at all instances together.
#[tokio::test]
async fn right_log_ins_of_one_account_at_two_instances_all_succeed() {
    let bed = Bed::start().await;
    let second = ::auth::service(|name| match name {
        "JWT_SECRET" => Some(SECRET.to_owned()),
        "JWT_REFRESH_SECRET" => Some(REFRESH_SECRET.to_owned()),
        "BCRYPT_COST" => Some("10".to_owned()),
        _ => None,
    });
    let _second = second.start(nats(&bed.server)).await.unwrap();
    let emails = accounts(&bed, 1).await;
    let body = json!({ "email": emails[0], "password": PASSWORD });
    let log_in = async |_| status(&bed.client.send("auth.login", &body).await);
    assert_eq!(join_all((0..16).map(log_in)).await, [200; 16]);
}

/// As many attempts as may fail are being checked elsewhere: the next one waits for what comes of them.
#[tokio::test]
async fn an_attempt_waits_for_those_of_other_instances() {
    let bed = Bed::start().await;
    let emails = accounts(&bed, 1).await;
    let connection = Connection::open(&nats(&bed.server)).await.unwrap();
    let secret = SecretKey::new("JWT_REFRESH_SECRET", REFRESH_SECRET).unwrap();
    let counts = LoginThrottle::open(&connection, &secret).await.unwrap();
    let key = counts.key("password", &guesses::key(&emails[0]));
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(counts.begin(&key, &ThrottlePolicy::ACCOUNT).await.unwrap());
    }
    assert!(matches!(counts.begin(&key, &ThrottlePolicy::ACCOUNT).await, Err(ThrottleError::Busy)));
    let body = json!({ "email": emails[0], "password": PASSWORD });
    let hurried = bed.client.timeout(Duration::from_secs(2));
    let busy = hurried.send::<Value>("auth.login", &body).await.unwrap_err();
    assert_eq!(busy.code(), Some(Code::Unavailable), "nothing has failed yet");
    let ends = async {
        for other in others {
            counts.succeeded(other).await.unwrap();
        }
    };
    let (log_in, ()) = join(bed.client.send::<Value>("auth.login", &body), ends).await;
    assert_eq!(status(&log_in), 200);
}

/// Calls `log_in` again and again, so many at a time, until `stop`.
async fn flood(at_once: usize, stop: &AtomicBool, log_in: impl AsyncFn()) {
    let again = async |_| {
        while !stop.load(Ordering::SeqCst) {
            log_in().await;
        }
    };
    join_all((0..at_once).map(again)).await;
}

#[tokio::test]
async fn an_unproven_flood_leaves_log_in_to_others() {
    let bed = Bed::start_with(|options| options.var("LOG_INS_PER_MINUTE", "60000")).await;
    let emails = accounts(&bed, 6).await;
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let unproven = flood(48, &stop, async || {
        let email = format!("nobody{}@example.com", made.fetch_add(1, Ordering::SeqCst));
        let body = json!({ "email": email, "password": "incorrect horse" });
        assert!(bed.client.send::<Value>("auth.login", &body).await.is_err());
    });
    let honest = async {
        assert!(made.load(Ordering::SeqCst) >= 48, "all of them are in flight");
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.extend(join_all(emails.iter().map(|email| patient_log_in(&bed, email))).await);
        }
        stop.store(true, Ordering::SeqCst);
        statuses
    };
    let ((), statuses) = join(unproven, honest).await;
    assert_eq!(statuses, [200; 18]);
}

/// One source with many connections has one turn, as every other source.
#[tokio::test]
async fn a_source_with_many_log_ins_leaves_turns_to_others() {
    let bed = Bed::start().await;
    let emails = accounts(&bed, 17).await;
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (next, ended) = (AtomicUsize::new(0), Notify::new());
    let busy = flood(16, &stop, async || {
        let email = &emails[1 + next.fetch_add(1, Ordering::SeqCst) % 16];
        assert_eq!(status(&log_in_from(&bed, "198.51.100.7", email, PASSWORD).await), 200);
        done.fetch_add(1, Ordering::SeqCst);
        ended.notify_one();
    });
    let honest = async {
        while done.load(Ordering::SeqCst) < 16 {
            ended.notified().await;
        }
        let before = done.load(Ordering::SeqCst);
        assert_eq!(status(&log_in_from(&bed, "203.0.113.9", &emails[0], PASSWORD).await), 200);
        stop.store(true, Ordering::SeqCst);
        done.load(Ordering::SeqCst) - before
    };
    let ((), others) = join(busy, honest).await;
    // One that runs, and those that ended around it; a line of 16 would be before it otherwise.
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(others <= 4 + 2 * cores, "{others} log-ins of one source came first");
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_busy_and_says_when() {
    let bed = Bed::start().await;
    let emails = accounts(&bed, 24).await;
    // A line of unproven callers takes longer than a short deadline allows for; the next one is told so.
    let line = join_all(emails.iter().map(async |email| {
        let body = json!({ "email": email, "password": PASSWORD });
        bed.client.timeout(Duration::from_secs(60)).send::<Value>("auth.login", &body).await
    }));
    let late = async {
        let body = json!({ "email": "nobody@example.com", "password": "incorrect horse" });
        let client = bed.client.timeout(Duration::from_millis(400));
        let mut busy = None;
        while busy.is_none() {
            match client.send::<Value>("auth.login", &body).await {
                Err(CallError::Remote(refused)) if refused.code() == Some(Code::Unavailable) => busy = Some(refused),
                _ => {}
            }
        }
        busy.unwrap()
    };
    let (line, busy) = join(line, late).await;
    assert!(line.iter().all(Result::is_ok), "those with time enough wait: {line:?}");
    let details: Value = serde_json::from_str(busy.details().unwrap().get()).unwrap();
    assert!((500..=5_000).contains(&details["retryAfterMs"].as_u64().unwrap()), "{details}");
}
