//! Passwords: cut, normalised, timed, planted, guessed.

use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use async_nats::jetstream::kv;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use nats_rpc::auth::{Backoff, BackoffRule, Email};
use nats_rpc::jwt::{PEER_HEADER, PeerSigner};
use nats_rpc::testing::NatsServer;
use nats_rpc::{CallError, Client, Code, Connection, RemoteError, Running, SecretKey};
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::capture;
use super::harness::{self, Outcome, cases};
use super::services::{self, PASSWORD, REFRESH_SECRET, credentials};
use crate::support::{client, nats, soon};

const WRONG: &str = "incorrect horse battery";
/// No password at all: it is wrong without being hashed, and counts like any other.
const SHORT: &str = "wrong";
const ASSERTION_SECRET: &str = "the assertion secret of the hostile cases";

pub(super) async fn run() -> Vec<Outcome> {
    let cases = cases![
        "password-01" => longer_than_bcrypt_reads,
        "password-02" => a_nul_character,
        "password-04" => one_password_in_two_normal_forms,
        "password-05" => the_time_of_a_log_in,
        "password-07" => an_address_that_has_an_account,
        "password-08" => planted_hashes,
        "password-10" => a_flood_of_log_ins,
        "password-11" => guesses,
        "password-13" => the_hash_of_an_empty_password,
        "password-14" => passwords_that_are_guessed_first,
        "own-password-source" => sources_that_nobody_proves,
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
    let Err(CallError::Answered(error)) = answer else { panic!("{place}: {answer:?}") };
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
    // A hash that another system made of more than bcrypt reads: nobody logs in with what was not read.
    let email = world.planted(&cheap(phrase(72).as_bytes(), 8)).await;
    for bytes in [71, 72, 73] {
        world.refuses_log_in(&email, &phrase(bytes)).await;
    }
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
    let flood: FuturesUnordered<_> = (0..200).map(|_| async { world.log_in(&address(), WRONG).await }).collect();
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
        world.refuses_sign_up(password, if password.is_empty() { "too_short" } else { "nul" }).await;
    }
    let short = world.planted(&cheap(b"short", 8)).await;
    world.refuses_log_in(&short, "short").await;
    world.lets_in(&world.planted(&cheap(PASSWORD.as_bytes(), 8)).await, PASSWORD).await;
}

impl World {
    fn signer(&self) -> PeerSigner {
        PeerSigner::hs256(&SecretKey::new("JWT_ASSERTION_SECRET", capture::secret(ASSERTION_SECRET)).unwrap())
    }

    /// The code that a log-in ends with whose caller is, as `signer` vouches for, at `address`; 0 if it is let in.
    async fn log_in_from(&self, signer: &PeerSigner, address: &str, email: &str, password: &str) -> u16 {
        let body = credentials(email, password);
        let proof = signer.sign(address.parse().unwrap(), "auth.login", body.to_string().as_bytes()).unwrap();
        let client = self.client.header(PEER_HEADER, capture::secret(proof));
        client.send::<Value>("auth.login", &body).await.map_or_else(|error| error.code().unwrap().status(), |_| 0)
    }

    /// Makes a wait last longer than any test, as if the last failure had come some hours from now.
    async fn prolong(&self, kind: &'static str, whose: &str) {
        let pepper = SecretKey::new("JWT_REFRESH_SECRET", REFRESH_SECRET).unwrap();
        let connection = Connection::open(&nats(&self.server)).await.unwrap();
        let later = || SystemTime::now() + Duration::from_secs(36_000);
        let backoff = Backoff::open(&connection, &pepper).await.unwrap().clock(later);
        backoff.begin(&backoff.key(kind, whose), &BackoffRule::ACCOUNT).await.unwrap();
    }
}

async fn guesses(world: &World) {
    // Ten for one account, all at once: five are looked at, and one more for each second that has passed.
    let ada = world.account(PASSWORD).await;
    let started = Instant::now();
    let codes = join_all((0..10).map(|_| world.log_in(&ada, SHORT))).await;
    let codes: Vec<_> = codes.into_iter().map(|answer| answer.unwrap_err().code().unwrap().status()).collect();
    let of = |status: u16| codes.iter().filter(|code| **code == status).count();
    assert!(of(401) + of(429) == 10 && of(401) <= 5 + started.elapsed().as_secs() as usize, "{codes:?}");
    harness::refused();
    // The wait ends by itself, and then the right password is enough.
    soon(async {
        while world.log_in(&ada, PASSWORD).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    harness::passed();
    // While it lasts, the right password is not even looked at; it lasts a quarter of an hour at most.
    for _ in 0..5 {
        drop(world.log_in(&ada, SHORT).await);
    }
    world.prolong("password", &ada).await;
    let refused = refusal(world.log_in(&ada, PASSWORD).await, 429, Location::caller());
    assert_eq!(refused.details().unwrap().get(), r#"{"retryAfterMs":900000}"#);
    let eve = world.account(PASSWORD).await;
    world.lets_in(&eve, PASSWORD).await;

    // One for each of a thousand accounts, from one source: twenty are looked at, and a few while waits end.
    let signer = world.signer();
    let started = Instant::now();
    let sprayed = (0..1_000).map(|_| async { world.log_in_from(&signer, "198.51.100.7", &address(), SHORT).await });
    let codes: Vec<u16> = futures::stream::iter(sprayed).buffer_unordered(16).collect().await;
    let of = |status: u16| codes.iter().filter(|code| **code == status).count();
    assert!(of(401) + of(429) == 1_000 && of(401) <= 20 + started.elapsed().as_secs() as usize, "{}", of(401));
    harness::refused();
    world.prolong("source", "198.51.100.7").await;
    assert_eq!(world.log_in_from(&signer, "198.51.100.7", &eve, PASSWORD).await, 429);
    harness::refused();
    // Who comes from elsewhere does not suffer for it.
    assert_eq!(world.log_in_from(&signer, "198.51.100.8", &eve, PASSWORD).await, 0);
    harness::passed();
}

/// A source is what a gateway signed; nothing that a caller writes makes it another, or nobody's.
async fn sources_that_nobody_proves(world: &World) {
    let eve = world.account(PASSWORD).await;
    let signer = world.signer();
    for _ in 0..20 {
        assert_eq!(world.log_in_from(&signer, "203.0.113.9", &address(), SHORT).await, 401);
    }
    world.prolong("source", "203.0.113.9").await;
    let body = credentials(&eve, PASSWORD);
    for (name, value) in [("x-forwarded-for", "198.51.100.1"), ("x-real-ip", "198.51.100.1"), ("forwarded", "for=::1")]
    {
        let proof = signer.sign("203.0.113.9".parse().unwrap(), "auth.login", body.to_string().as_bytes()).unwrap();
        let client = world.client.header(PEER_HEADER, capture::secret(proof)).header(name, value);
        let refused = client.send::<Value>("auth.login", &body).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::ResourceExhausted), "{name}");
        harness::refused();
    }
    assert_eq!(world.log_in_from(&signer, "203.0.113.10", &eve, PASSWORD).await, 0);
    harness::passed();
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
