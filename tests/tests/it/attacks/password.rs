//! Passwords: cut, normalised, timed, planted, guessed.

mod guesses;

use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_nats::jetstream::kv;
use nats_rpc::testing::NatsServer;
use nats_rpc::{CallError, Client, Code, Connection, RemoteError, ServiceHandle};
use nats_rpc_auth::Email;
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::capture;
use super::harness::{self, Outcome, cases};
use super::services::{self, PASSWORD, credentials};
use crate::support::{client, nats, soon};

const WRONG: &str = "incorrect horse battery";
const ASSERTION_SECRET: &str = "the assertion secret of the hostile cases";

pub(super) async fn run() -> Vec<Outcome> {
    let cases = cases![
        "password-01" => longer_than_bcrypt_reads,
        "password-02" => a_nul_character,
        "password-04" => one_password_in_two_normal_forms,
        "password-05" => the_time_of_a_log_in,
        "password-07" => an_address_that_has_an_account,
        "password-08" => planted_hashes,
        "password-10" => guesses::a_flood_of_log_ins,
        "password-11" => guesses::one_account_and_many,
        "password-13" => the_hash_of_an_empty_password,
        "password-14" => passwords_that_are_guessed_first,
        "own-password-source" => guesses::sources_that_nobody_proves,
        "own-password-shape" => credentials_of_other_types,
        "own-password-address" => one_address_in_other_spellings,
    ];
    harness::run(World::start, cases).await
}

struct World {
    client: Client,
    accounts: kv::Store,
    _auth: ServiceHandle,
    server: NatsServer,
}

impl World {
    async fn start() -> Self {
        let server = server();
        let auth = services::auth(&server, &[("JWT_ASSERTION_SECRET", ASSERTION_SECRET)]).await;
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

    /// Asserts that a sign-up is refused as 400, for this reason.
    #[track_caller]
    fn refuses_sign_up(&self, password: &str, reason: &str) -> impl Future<Output = ()> {
        let place = Location::caller();
        async move {
            let error = refusal(self.sign_up(&address(), password).await, 400, place);
            let details: Value = serde_json::from_str(error.details().unwrap().get()).unwrap();
            assert_eq!(details["reason"], reason, "{place}: {password:.80}");
        }
    }

    #[track_caller]
    fn refuses_log_in(&self, email: &str, password: &str) -> impl Future<Output = ()> {
        let place = Location::caller();
        async move {
            let error = refusal(self.log_in(email, password).await, 401, place);
            assert_eq!(error.message(), "wrong e-mail address or password", "{place}");
        }
    }

    #[track_caller]
    fn lets_in(&self, email: &str, password: &str) -> impl Future<Output = ()> {
        let place = Location::caller();
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
fn refusal(answer: Result<Value, CallError>, status: u16, place: &'static Location<'static>) -> RemoteError {
    let Err(CallError::Remote(error)) = answer else { panic!("{place}: {answer:?}") };
    assert_eq!(error.code().map(Code::status), Some(status), "{place}: {}", error.message());
    harness::refused();
    error
}

/// A hash of `password` at a cost that takes a test no time.
fn cheap(password: &[u8], cost: u32) -> String {
    bcrypt::hash(password, cost).unwrap()
}

/// A password of so many bytes, with no pattern in it.
fn phrase(bytes: usize) -> String {
    let words = "of the quick brown fox that jumps over lazy dogs there are many tales; this is one ";
    words.chars().cycle().take(bytes).collect()
}

async fn longer_than_bcrypt_reads(world: &World) {
    for bytes in [72, 73, 100, 10_000] {
        world.refuses_sign_up(&phrase(bytes), "too_long").await;
    }
    // A character across the boundary is not cut in two.
    for password in ["é".repeat(36), format!("{}é", phrase(70)), format!("{}\u{1f40e}", phrase(68))] {
        assert_eq!(password.len(), 72);
        world.refuses_sign_up(&password, "too_long").await;
    }
    for password in [phrase(71), format!("{}é", phrase(69)), format!("{}\u{1f40e}", phrase(67))] {
        let email = world.account(&password).await;
        world.lets_in(&email, &password).await;
        world.refuses_log_in(&email, &format!("{password}a")).await;
        world.refuses_log_in(&email, &format!("{password}ab")).await;
    }
    // A hash that another system made, which reads 72 bytes: its user logs in, and from then on every byte counts.
    let email = world.planted(&cheap(phrase(72).as_bytes(), 8)).await;
    world.refuses_log_in(&email, &phrase(71)).await;
    world.lets_in(&email, &phrase(73)).await;
    for bytes in [71, 72, 74] {
        world.refuses_log_in(&email, &phrase(bytes)).await;
    }
    world.lets_in(&email, &phrase(73)).await;
}

async fn a_nul_character(world: &World) {
    for password in ["correct\0horse", "\0correct horse", "correct horse\0", "\0\0\0\0\0\0\0\0"] {
        world.refuses_sign_up(password, "nul").await;
    }
    let email = world.account("correct horse").await;
    for password in ["correct horse\0", "correct horse\0battery", "correct horse\0\0"] {
        world.refuses_log_in(&email, password).await;
    }
    world.lets_in(&email, "correct horse").await;
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
    let long = phrase(60).replace('e', "e\u{301}");
    assert!(long.len() < 90 && long.len() > 71 - 10);
    let email = world.account(&long).await;
    world.lets_in(&email, &phrase(60).replace('e', "\u{e9}")).await;
}

/// An unknown user costs what a wrong password does, and reads the same: neither is answered before a hash at
/// the full cost can have been made. (How alike the two are is no matter for a machine that tests.)
async fn the_time_of_a_log_in(world: &World) {
    let hash = world.stored_hash(&world.account(PASSWORD).await).await;
    let hashing = (0..5).map(|_| {
        let started = Instant::now();
        assert!(!bcrypt::verify(WRONG, &hash).unwrap());
        started.elapsed()
    });
    // The fastest of some, halved twice, as the machine may have stood still for all of them.
    let at_least = hashing.min().unwrap() / 4;
    for _ in 0..6 {
        // Each account once, as failures make the next wait.
        for email in [world.planted(&hash).await, address()] {
            let started = Instant::now();
            world.refuses_log_in(&email, WRONG).await;
            let took = started.elapsed();
            assert!(took >= at_least, "{email}: {took:?}, and hashing takes {at_least:?} at least");
        }
    }
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
    let alarms = || capture::times(ALARM);
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

async fn the_hash_of_an_empty_password(world: &World) {
    let email = world.planted(&cheap(b"", 8)).await;
    for password in ["", "\0", "\0\0\0\0\0\0\0\0\0"] {
        world.refuses_log_in(&email, password).await;
        world.refuses_sign_up(password, if password.is_empty() { "too_short" } else { "nul" }).await;
    }
    // One that is only short is its user's, who came from another system with it.
    let short = world.planted(&cheap(b"short", 8)).await;
    for password in ["shor", "short\0", "short\0short"] {
        world.refuses_log_in(&short, password).await;
    }
    world.lets_in(&short, "short").await;
    world.lets_in(&world.planted(&cheap(PASSWORD.as_bytes(), 8)).await, PASSWORD).await;
}

async fn passwords_that_are_guessed_first(world: &World) {
    let email = "ada.lovelace@example.com";
    for (password, reason) in [
        (email, "personal"),
        ("ADA.LOVELACE@EXAMPLE.COM", "personal"),
        ("ada.lovelace", "personal"),
        ("ada.lovelace1", "personal"),
        ("password", "common"),
        ("Password1!", "common"),
        ("P4ssw0rd!", "common"),
        ("qwertyuiop", "pattern"),
        ("12345678", "pattern"),
        ("aaaaaaaaaaaa", "pattern"),
        ("short", "too_short"),
    ] {
        let refused = refusal(world.sign_up(email, password).await, 400, Location::caller());
        let details: Value = serde_json::from_str(refused.details().unwrap().get()).unwrap();
        assert_eq!(details["reason"], reason, "{password}");
    }
    // The same address, with a password that is none of these.
    world.sign_up(email, PASSWORD).await.unwrap();
    harness::passed();
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
        refusal(world.sign_up(&same, PASSWORD).await, 409, Location::caller());
        world.lets_in(&same, PASSWORD).await;
    }
    for other in
        [format!("x{email}"), email.replacen('@', "+a@", 1), email.replace(".com", ".co"), format!("{email}\0")]
    {
        world.refuses_log_in(&other, PASSWORD).await;
    }
}
