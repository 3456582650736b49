//! Passwords: cut, normalised, timed, planted, guessed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use nats_rpc::auth::Email;
use nats_rpc::testing::NatsServer;
use nats_rpc::{CallError, Client, Code, Connection, Running};
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::capture;
use super::harness::{self, Outcome, cases};
use super::services::{self, PASSWORD, credentials};
use crate::support::{client, nats, soon};

const WRONG: &str = "incorrect horse battery";

pub(super) async fn run() -> Vec<Outcome> {
    let cases = cases![
        "password-01" => longer_than_bcrypt_reads,
        "password-02" => a_nul_character,
        "password-04" => one_password_in_two_normal_forms,
        "password-05" => the_time_of_a_log_in,
        "password-07" => an_address_that_has_an_account,
        "password-08" => planted_hashes,
        "password-10" => a_flood_of_log_ins,
        "password-13" => the_hash_of_an_empty_password,
        "own-password-shape" => credentials_of_other_types,
        "own-password-address" => one_address_in_other_spellings,
    ];
    harness::run(World::start, cases).await
}

struct World {
    client: Client,
    accounts: kv::Store,
    _auth: Running,
    server: NatsServer,
}

impl World {
    async fn start() -> Self {
        let server = server();
        let auth = services::auth(&server, &[]).await;
        let connection = Connection::open(&nats(&server)).await.unwrap();
        let accounts = connection.jetstream().get_key_value("auth_users").await.unwrap();
        Self { client: client(&server).await, accounts, _auth: auth, server }
    }

    async fn sign_up(&self, email: &str, password: &str) -> Result<Value, CallError> {
        self.client.send("auth.signup", &credentials(email, password)).await
    }

    async fn log_in(&self, email: &str, password: &str) -> Result<Value, CallError> {
        self.client.send("auth.login", &credentials(email, password)).await
    }

    /// Asserts that a sign-up is refused as 400, with all of `words` in the reason.
    #[track_caller]
    fn refuses_sign_up(&self, password: &str, words: &[&str]) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let error = refusal(self.sign_up(&address(), password).await, 400, place);
            assert!(words.iter().all(|word| error.contains(word)), "{place}: {error}");
        }
    }

    #[track_caller]
    fn refuses_log_in(&self, email: &str, password: &str) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let error = refusal(self.log_in(email, password).await, 401, place);
            assert_eq!(error, "wrong e-mail address or password", "{place}");
        }
    }

    #[track_caller]
    fn lets_in(&self, email: &str, password: &str) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            if let Err(error) = self.log_in(email, password).await {
                panic!("{place}: {error}");
            }
            harness::passed();
        }
    }

    /// The address of a new account with this password.
    async fn account(&self, password: &str) -> String {
        let email = address();
        self.sign_up(&email, password).await.unwrap_or_else(|error| panic!("{password}: {error}"));
        email
    }

    /// The address of a new account whose stored hash is `hash`, as one who writes the bucket would leave it.
    async fn planted(&self, hash: &str) -> String {
        let email = address();
        let account = json!({ "userId": users::UserId::generate().to_string(), "passwordHash": capture::secret(hash) });
        soon(self.accounts.put(key(&email), account.to_string().into())).await.unwrap();
        email
    }

    async fn stored_hash(&self, email: &str) -> String {
        let account = soon(self.accounts.get(key(email))).await.unwrap().unwrap();
        let account: Value = serde_json::from_slice(&account).unwrap();
        capture::secret(account["passwordHash"].as_str().unwrap().to_owned())
    }
}

fn key(email: &str) -> String {
    Email::parse(email).unwrap().key()
}

fn address() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("password-{}@example.com", NEXT.fetch_add(1, Ordering::SeqCst))
}

#[track_caller]
fn refusal(answer: Result<Value, CallError>, status: u16, place: &'static std::panic::Location<'static>) -> String {
    let Err(CallError::Answered(error)) = answer else { panic!("{place}: {answer:?}") };
    assert_eq!(error.code().map(Code::status), Some(status), "{place}: {}", error.message());
    harness::refused();
    error.message().to_owned()
}

/// A hash of `password` at a cost that takes a test no time.
fn cheap(password: &[u8], cost: u32) -> String {
    bcrypt::hash(password, cost).unwrap()
}

async fn longer_than_bcrypt_reads(world: &World) {
    for bytes in [72, 73, 100, 10_000] {
        world.refuses_sign_up(&"a".repeat(bytes), &["at most 71 bytes"]).await;
    }
    // A character across the boundary is not cut in two.
    for password in ["é".repeat(36), format!("{}é", "a".repeat(70)), format!("{}\u{1f40e}", "a".repeat(68))] {
        assert_eq!(password.len(), 72);
        world.refuses_sign_up(&password, &["at most 71 bytes"]).await;
    }
    for password in ["a".repeat(71), format!("{}é", "a".repeat(69)), format!("{}\u{1f40e}", "a".repeat(67))] {
        let email = world.account(&password).await;
        world.lets_in(&email, &password).await;
        world.refuses_log_in(&email, &format!("{password}a")).await;
        world.refuses_log_in(&email, &format!("{password}ab")).await;
    }
    // A hash that another system made of more than bcrypt reads: nobody logs in with what was not read.
    let email = world.planted(&cheap(&[b'a'; 72], 8)).await;
    for bytes in [71, 72, 73] {
        world.refuses_log_in(&email, &"a".repeat(bytes)).await;
    }
}

async fn a_nul_character(world: &World) {
    for password in ["correct\0horse", "\0correct horse", "correct horse\0", "\0\0\0\0\0\0\0\0"] {
        world.refuses_sign_up(password, &["NUL"]).await;
    }
    let email = world.account("aaaaaaaa").await;
    for password in ["aaaaaaaa\0", "aaaaaaaa\0aaaaaaaa", "aaaaaaaa\0b"] {
        world.refuses_log_in(&email, password).await;
    }
    world.lets_in(&email, "aaaaaaaa").await;
}

async fn one_password_in_two_normal_forms(world: &World) {
    let (composed, decomposed) = ("caf\u{e9} au lait", "cafe\u{301} au lait");
    for (chosen, typed) in [(composed, decomposed), (decomposed, composed)] {
        let email = world.account(chosen).await;
        world.lets_in(&email, typed).await;
        world.refuses_log_in(&email, "cafe au lait").await;
        world.refuses_log_in(&email, "CAF\u{c9} AU LAIT").await;
    }
    // Its length is that of the form which is hashed.
    let long = "e\u{301}".repeat(30);
    let email = world.account(&long).await;
    world.lets_in(&email, &"\u{e9}".repeat(30)).await;
}

/// An unknown user costs what a wrong password does, and reads the same.
async fn the_time_of_a_log_in(world: &World) {
    let hash = world.stored_hash(&world.account(PASSWORD).await).await;
    let mut times: [Vec<Duration>; 2] = [Vec::new(), Vec::new()];
    // Taking turns, so that whatever else the machine does hits both alike; each account once.
    for _ in 0..6 {
        let known = world.planted(&hash).await;
        for (times, email) in times.iter_mut().zip([known, address()]) {
            let started = Instant::now();
            world.refuses_log_in(&email, WRONG).await;
            times.push(started.elapsed());
        }
    }
    let [wrong, unknown] = times.map(|times| times.into_iter().min().unwrap().as_secs_f64());
    let ratio = unknown / wrong;
    assert!((0.6..1.7).contains(&ratio), "wrong password {wrong} s, unknown user {unknown} s");
    world.lets_in(&world.planted(&hash).await, PASSWORD).await;
}

/// A 409 tells who has an account; that is why sign-ups are bounded.
async fn an_address_that_has_an_account(world: &World) {
    let server = server();
    let _auth = services::auth(&server, &[("SIGN_UPS_PER_MINUTE", "3")]).await;
    let client = client(&server).await;
    let sign_up = async |email: &str| {
        let answer = client.send::<Value>("auth.signup", &credentials(email, PASSWORD)).await;
        answer.map(drop).map_err(|error| error.code().unwrap().status())
    };
    let taken = address();
    assert_eq!(sign_up(&taken).await, Ok(()));
    harness::passed();
    assert_eq!(sign_up(&taken).await, Err(409));
    assert_eq!(sign_up(&taken.to_uppercase()).await, Err(409));
    for _ in 0..5 {
        // Neither tells any more.
        assert_eq!(sign_up(&taken).await, Err(429));
        assert_eq!(sign_up(&address()).await, Err(429));
        harness::refused();
    }
    // Who has an account is not kept out.
    let log_in = client.send::<Value>("auth.login", &credentials(&taken, PASSWORD)).await;
    assert!(log_in.is_ok());
    world.account(PASSWORD).await;
}

async fn planted_hashes(world: &World) {
    const ALARM: &str = "a stored password hash is malformed";
    let good = cheap(PASSWORD.as_bytes(), 8);
    let body = &good[7..];
    let alarms = || capture::log().matches(ALARM).count();
    for hash in [
        String::new(),
        PASSWORD.to_owned(),
        format!("$2b$31${body}"),
        format!("$2b$16${body}"),
        format!("$2b$99${body}"),
        format!("$2b$00${body}"),
        // Genuine, and too cheap to be ours; bcrypt itself reads "+4" as four.
        cheap(PASSWORD.as_bytes(), 4),
        cheap(PASSWORD.as_bytes(), 4).replacen("$04$", "$+4$", 1),
        format!("$2b$08${}", &body[1..]),
        format!("$2b$08${body}x"),
        format!("$2b$08${}\u{e9}", &body[2..]),
        format!("\u{e9}{good}"),
        good.to_uppercase(),
        "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA".to_owned(),
        "*".to_owned(),
    ] {
        let before = alarms();
        let email = world.planted(&hash).await;
        world.refuses_log_in(&email, PASSWORD).await;
        assert_eq!(alarms(), before + 1, "no alarm over {hash:?}");
    }
    let before = alarms();
    world.lets_in(&world.planted(&good).await, PASSWORD).await;
    assert_eq!(alarms(), before);
}

/// Two hundred at once: what does not fit is told so at once, and others are served meanwhile.
async fn a_flood_of_log_ins(world: &World) {
    let flood: FuturesUnordered<_> = (0..200).map(|_| world.log_in("nobody@example.com", WRONG)).collect();
    let others = async {
        let mut served = 0;
        loop {
            // A request to the same process that hashes nothing.
            let answer = world.client.send::<Value>("auth.refresh", &json!({ "refreshToken": "nrt1." })).await;
            assert_eq!(answer.unwrap_err().code(), Some(Code::Unauthenticated));
            served += 1;
            if served == 100 {
                return Instant::now();
            }
        }
    };
    let flood = async {
        let codes: Vec<_> = flood.map(|answer| answer.unwrap_err().code().unwrap().status()).collect().await;
        (codes, Instant::now())
    };
    let (served, (codes, over)) = tokio::join!(others, flood);
    assert!(served < over, "a hundred other requests took longer than all of the flood");
    let (busy, wrong) =
        (codes.iter().filter(|code| **code == 429).count(), codes.iter().filter(|code| **code == 401).count());
    assert_eq!(busy + wrong, 200, "{codes:?}");
    assert!(busy > 100 && wrong > 0, "{busy} busy, {wrong} wrong");
    harness::refused();
    // It has passed.
    let email = world.account(PASSWORD).await;
    world.lets_in(&email, PASSWORD).await;
}

async fn the_hash_of_an_empty_password(world: &World) {
    let email = world.planted(&cheap(b"", 8)).await;
    for password in ["", "\0", "\0\0\0\0\0\0\0\0\0"] {
        world.refuses_log_in(&email, password).await;
        world.refuses_sign_up(password, &["password"]).await;
    }
    let short = world.planted(&cheap(b"short", 8)).await;
    world.refuses_log_in(&short, "short").await;
    world.lets_in(&world.planted(&cheap(PASSWORD.as_bytes(), 8)).await, PASSWORD).await;
}

async fn credentials_of_other_types(world: &World) {
    let email = world.account(PASSWORD).await;
    for body in [
        json!({ "email": email }),
        json!({ "password": PASSWORD }),
        json!({ "email": email, "password": null }),
        json!({ "email": email, "password": [PASSWORD] }),
        json!({ "email": email, "password": { "$ne": "" } }),
        json!({ "email": { "$gt": "" }, "password": PASSWORD }),
        json!({ "email": email, "password": true }),
        json!([]),
        json!(null),
    ] {
        let error = world.client.send::<Value>("auth.login", &body).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidArgument), "{body}");
        harness::refused();
    }
    let nats = crate::support::foreign(&world.server).await;
    for body in [format!(r#"{{"email":"{email}","password":"{WRONG}","password":"{PASSWORD}"}}"#), "{".to_owned()] {
        let answer = crate::support::request(&nats, "auth.login", body).await;
        assert_eq!(crate::support::code(&answer), 400);
        harness::refused();
    }
    world.lets_in(&email, PASSWORD).await;
}

async fn one_address_in_other_spellings(world: &World) {
    let email = world.account(PASSWORD).await;
    for same in [email.to_uppercase(), format!(" {email} ")] {
        let place = std::panic::Location::caller();
        refusal(world.sign_up(&same, PASSWORD).await, 409, place);
        world.lets_in(&same, PASSWORD).await;
    }
    for other in
        [format!("x{email}"), email.replacen('@', "+a@", 1), email.replace(".com", ".co"), format!("{email}\0")]
    {
        world.refuses_log_in(&other, PASSWORD).await;
    }
}
