//! Who tries addresses by signing up is slowed down, and nobody else.

use std::net::IpAddr;

use ::auth::account::{Account, AccountKey, Accounts};
use ::users::{Profile, UserId, Users};
use nats_rpc::{CallError, Connection};
use nats_rpc_auth::Email;
use nats_rpc_jwt::{CLIENT_IP_HEADER, ClientIpSigner};

use super::*;

fn body(email: &str) -> Value {
    json!({ "email": email, "password": PASSWORD })
}

/// What a sign-up comes to that a gateway vouches for as one from `source`, or that nobody vouches for.
async fn sign_up(bed: &Bed, source: Option<&str>, email: &str) -> u16 {
    match attempt(bed, source, email).await {
        Ok(()) => 201,
        Err(error) => error.code().unwrap().status(),
    }
}

async fn attempt(bed: &Bed, source: Option<&str>, email: &str) -> Result<(), CallError> {
    let body = body(email);
    let client = match source {
        Some(source) => {
            let signer = ClientIpSigner::hs256(&SecretKey::new("JWT_ASSERTION_SECRET", ASSERTION_SECRET).unwrap());
            let source: IpAddr = source.parse().unwrap();
            bed.client
                .header(CLIENT_IP_HEADER, signer.sign(source, "auth.signup", body.to_string().as_bytes()).unwrap())
        }
        None => bed.client.clone(),
    };
    soon(client.send::<Value>("auth.signup", &body)).await.map(drop)
}

#[tokio::test]
async fn one_source_is_429_after_its_share_and_others_sign_up_and_it_logs_in() {
    let bed = Bed::start_with(|options| options.var("SIGN_UPS_PER_MINUTE", "6")).await;
    // A half of what all have, whether an address has an account or not, and whatever a header says.
    for (n, (email, status)) in
        [("ada", 201), ("ada", 409), ("eve", 201), ("bob", 429), ("ada", 429)].iter().enumerate()
    {
        let request = bed.http.post(format!("{}/api/auth/signup", bed.system.gateway_url()));
        let request = request.header("x-forwarded-for", format!("198.51.100.{n}"));
        let (answered, body) = answer(request.json(&body(&format!("{email}@example.com")))).await;
        assert_eq!(answered, *status, "{body}");
        if answered == 429 {
            let wait = body["details"]["retryAfterMs"].as_u64().unwrap();
            assert!((1..=60_000).contains(&wait), "{wait}");
        }
    }
    assert_eq!(sign_up(&bed, Some("203.0.113.7"), "bob@example.com").await, 201);
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 200);
}

#[tokio::test]
async fn who_proves_no_source_leaves_those_who_do_their_sign_ups() {
    let bed = Bed::start_with(|options| options.var("SIGN_UPS_PER_MINUTE", "2")).await;
    for (email, status) in [("ada@example.com", 201), ("ada@example.com", 409), ("ada@example.com", 429)] {
        assert_eq!(sign_up(&bed, None, email).await, status);
    }
    bed.sign_up("eve@example.com").await;
}

#[tokio::test]
async fn of_many_sources_too_many_sign_ups_are_429_and_log_ins_are_not() {
    let bed = Bed::start_with(|options| options.var("SIGN_UPS_PER_MINUTE", "2")).await;
    bed.sign_up("ada@example.com").await;
    assert_eq!(sign_up(&bed, Some("203.0.113.1"), "ada@example.com").await, 409);
    assert_eq!(sign_up(&bed, Some("203.0.113.2"), "ada@example.com").await, 429);
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 200);
}

#[tokio::test]
async fn who_finds_the_shared_bound_used_up_is_told_to_wait_until_a_place_is_free() {
    let bed = Bed::start_with(|options| options.var("SIGN_UPS_PER_MINUTE", "1")).await;
    assert_eq!(sign_up(&bed, None, "ada@example.com").await, 201);
    let Err(CallError::Remote(refused)) = attempt(&bed, None, "eve@example.com").await else { panic!("let in") };
    let details: Value = serde_json::from_str(refused.details().unwrap().get()).unwrap();
    let wait = details["retryAfterMs"].as_u64().unwrap();
    // A minute, but for what passed meanwhile.
    assert!((30_000..=60_000).contains(&wait), "{wait}");
}

#[tokio::test]
async fn address_that_looks_like_another_is_refused() {
    let bed = Bed::start().await;
    bed.sign_up("ada@example.com").await;
    for alike in
        ["\u{430}da@example.com", "ad\u{34f}a@example.com", "ada\u{fe0f}@example.com", "\u{ff41}da@example.com"]
    {
        let body = json!({ "email": alike, "password": PASSWORD });
        let (status, said) = bed.post("/api/auth/signup", None, &body).await;
        assert_eq!((status, &said["code"]), (400, &json!("INVALID_ARGUMENT")), "{alike:?}");
        assert_eq!(bed.log_in(alike, PASSWORD).await.0, 401, "{alike:?}");
    }
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 200);
    bed.sign_up("josé@example.com").await;
}

#[tokio::test]
async fn command_lists_accounts_that_look_alike() {
    let bed = Bed::start().await;
    bed.sign_up("eve@example.com").await;
    assert_eq!(bed.command(&["users", "look-alikes"]).await, "no accounts look alike");
    let (real, ascii) = (bed.sign_up("paypal@example.com").await, bed.sign_up("paypa1@example.com").await);

    // An account from before such addresses were refused; it logs in as ever.
    let connection = Connection::open(&bed.system.nats_of("auth")).await.unwrap();
    let (accounts, profiles) = (Accounts::open(&connection).await.unwrap(), Users::open(&connection).await.unwrap());
    let email = Email::parse("p\u{430}ypal@example.com").unwrap();
    let stored = accounts.find(&AccountKey::of(&Email::parse("eve@example.com").unwrap())).await.unwrap().unwrap();
    let old = Account::new(stored.password_hash);
    assert!(accounts.create(&AccountKey::of(&email), &old).await.unwrap());
    profiles.create(&Profile::new(old.user_id, email.as_str())).await.unwrap();
    assert_eq!(bed.log_in(email.as_str(), PASSWORD).await.0, 200);
    // A profile that claims an address of another's account is not listed.
    profiles.create(&Profile::new(UserId::generate(), "paypal@example.com")).await.unwrap();

    let listed = bed.command(&["users", "look-alikes"]).await;
    let mut expected = [
        format!("{} paypal@example.com", real.id),
        format!("{} paypa1@example.com", ascii.id),
        format!("{} p\\u{{430}}ypal@example.com", old.user_id),
    ];
    expected.sort();
    assert_eq!(listed, expected.join("\n"));
}
