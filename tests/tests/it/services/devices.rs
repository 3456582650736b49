//! Known devices: the failures of others do not hold them up, and a stolen token buys few guesses.

use nats_rpc::CallError;
use nats_rpc_auth::{DeviceTokens, Email, Owner};
use reqwest::header::{COOKIE, SET_COOKIE};

use super::guesses::{WRONG, fail, key, prolong};
use super::log_in_queue::status;
use super::*;

const ADA: &str = "ada@example.com";
const DEVICE_HEADER: &str = "nrpc-device";

fn devices() -> DeviceTokens {
    DeviceTokens::new(&SecretKey::new("JWT_REFRESH_SECRET", REFRESH_SECRET).unwrap())
}

/// The whole `set-cookie` of a reply, its status and its body.
async fn post(bed: &Bed, path: &str, cookie: Option<&str>, body: &Value) -> (u16, Option<String>, Value) {
    let request = bed.http.post(format!("{}{path}", bed.system.gateway_url())).json(body);
    let request = match cookie {
        Some(cookie) => request.header(COOKIE, cookie),
        None => request,
    };
    let response = soon(request.send()).await.unwrap();
    let set = response.headers().get(SET_COOKIE).map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), set, soon(response.json()).await.unwrap())
}

fn credentials(email: &str, password: &str) -> Value {
    json!({ "email": email, "password": password })
}

/// What a browser sends back of a `set-cookie`.
fn cookie(set: &str) -> String {
    set.split(';').next().unwrap().to_owned()
}

fn token(set: &str) -> String {
    cookie(set).split_once('=').unwrap().1.to_owned()
}

async fn sign_up(bed: &Bed, email: &str) -> String {
    let (status, set, body) = post(bed, "/api/auth/signup", None, &credentials(email, PASSWORD)).await;
    assert_eq!(status, 201, "{body}");
    assert!(body.get("deviceToken").is_none(), "scripts cannot read it");
    set.expect("a cookie")
}

async fn log_in_with(bed: &Bed, token: &str, email: &str, password: &str) -> Result<Value, CallError> {
    bed.client.header(DEVICE_HEADER, token).send("auth.login", &credentials(email, password)).await
}

#[tokio::test]
async fn failures_of_others_do_not_hold_up_a_known_device() {
    let bed = Bed::start().await;
    let set = sign_up(&bed, ADA).await;
    for attribute in ["__Host-device=nrd1.", "; HttpOnly", "; Secure", "; SameSite=Strict", "; Path=/"] {
        assert!(set.contains(attribute), "{set}");
    }
    assert_eq!(fail(&bed, ADA, 5).await, [401; 5]);
    prolong(&bed, "password", &key(ADA)).await;
    prolong(&bed, "source", "127.0.0.1").await;
    assert_eq!(bed.log_in(ADA, PASSWORD).await.0, 429, "a strange device waits");
    for _ in 0..2 {
        let body = credentials(ADA, PASSWORD);
        let (status, again, body) = post(&bed, "/api/auth/login", Some(&cookie(&set)), &body).await;
        assert_eq!(status, 200, "{body}");
        assert!(body.get("deviceToken").is_none() && again.is_some(), "the cookie is prolonged");
    }
    // A log-in by the owner gives the others no further guesses.
    assert_eq!(bed.log_in(ADA, PASSWORD).await.0, 429);
    // A change of the password asks for the present one, and knows the device as well.
    let (_, _, tokens) = post(&bed, "/api/auth/login", Some(&cookie(&set)), &credentials(ADA, PASSWORD)).await;
    let change = bed.http.post(format!("{}/api/auth/password/change", bed.system.gateway_url()));
    let change = change.bearer_auth(tokens["accessToken"].as_str().unwrap()).header(COOKIE, cookie(&set));
    let body = json!({ "currentPassword": PASSWORD, "newPassword": "incorrect horse battery" });
    let changed = soon(change.json(&body).send()).await.unwrap();
    assert_eq!(changed.status().as_u16(), 200);
    let new = changed.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    // It ends all sessions, and the tokens of all devices but this one.
    let log_in = async |set: &str| {
        post(&bed, "/api/auth/login", Some(&cookie(set)), &credentials(ADA, "incorrect horse battery")).await.0
    };
    assert_eq!((log_in(&set).await, log_in(&new).await), (429, 200));
}

#[tokio::test]
async fn forged_and_foreign_device_tokens_are_unknown() {
    let bed = Bed::start().await;
    let ada = token(&sign_up(&bed, ADA).await);
    let eve = token(&sign_up(&bed, "eve@example.com").await);
    fail(&bed, ADA, 5).await;
    prolong(&bed, "password", &key(ADA)).await;
    let stranger = DeviceTokens::new(&SecretKey::new("JWT_REFRESH_SECRET", SECRET).unwrap());
    let owner = |user: &str| Owner::new(user, key(ADA));
    let forged = [
        eve,
        stranger.issue(&owner("u1"), None).unwrap(),
        // Genuine, for the address, but of a user who is another one by now.
        devices().issue(&owner("u1"), None).unwrap(),
        format!("{}A", &ada[..ada.len() - 1]),
        ada[1..].to_owned(),
        "nrd1.".to_owned(),
    ];
    for forged in &forged {
        if *forged != ada {
            assert_eq!(status(&log_in_with(&bed, forged, ADA, PASSWORD).await), 429, "{forged}");
        }
    }
    assert_eq!(status(&log_in_with(&bed, &ada, ADA, PASSWORD).await), 200);
    // None of them is any better for an address without an account.
    fail(&bed, "nobody@example.com", 5).await;
    prolong(&bed, "password", &key("nobody@example.com")).await;
    assert_eq!(status(&log_in_with(&bed, &ada, "nobody@example.com", PASSWORD).await), 429);
}

#[tokio::test]
async fn guesses_with_a_stolen_device_token_are_bounded() {
    let bed = Bed::start().await;
    let stolen = token(&sign_up(&bed, ADA).await);
    let other = soon(log_in_with(&bed, "", ADA, PASSWORD)).await.unwrap()["deviceToken"].as_str().unwrap().to_owned();
    let id = |token: &str| devices().verify(token, &Email::parse(ADA).unwrap().key()).unwrap().id();
    for _ in 0..5 {
        assert_eq!(status(&log_in_with(&bed, &stolen, ADA, WRONG).await), 401);
    }
    prolong(&bed, "device", &id(&stolen)).await;
    // From now on it is a stranger's: its guesses are those at the account.
    assert_eq!(status(&log_in_with(&bed, &stolen, ADA, PASSWORD).await), 200);
    for _ in 0..5 {
        assert_eq!(status(&log_in_with(&bed, &stolen, ADA, WRONG).await), 401);
    }
    prolong(&bed, "password", &key(ADA)).await;
    assert_eq!(status(&log_in_with(&bed, &stolen, ADA, PASSWORD).await), 429);
    // Another device of the owner is not held up by it.
    assert_eq!(status(&log_in_with(&bed, &other, ADA, PASSWORD).await), 200);

    // After twenty failures, however long ago, a token is good for nothing.
    let throttle = {
        let connection = nats_rpc::Connection::open(&nats(&bed.server)).await.unwrap();
        let secret = SecretKey::new("JWT_REFRESH_SECRET", REFRESH_SECRET).unwrap();
        nats_rpc_auth::LoginThrottle::open(&connection, &secret).await.unwrap()
    };
    let long_ago = throttle.clock(|| std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
    let policy = nats_rpc_auth::ThrottlePolicy::ACCOUNT;
    for _ in 0..20 {
        long_ago.add_failure(&long_ago.key("device", &id(&other)), &policy).await.unwrap();
    }
    assert_eq!(status(&log_in_with(&bed, &other, ADA, PASSWORD).await), 429);
}

#[tokio::test]
async fn a_log_out_everywhere_revokes_all_devices() {
    let bed = Bed::start().await;
    let before = token(&sign_up(&bed, ADA).await);
    fail(&bed, ADA, 5).await;
    prolong(&bed, "password", &key(ADA)).await;
    let tokens = log_in_with(&bed, &before, ADA, PASSWORD).await.unwrap();
    let access = tokens["accessToken"].as_str().unwrap();
    assert_eq!(bed.post("/api/auth/logout-all", Some(access), &json!({})).await.0, 200);
    assert_eq!(status(&log_in_with(&bed, &before, ADA, PASSWORD).await), 429);
    let after = tokens["deviceToken"].as_str().unwrap();
    assert_eq!(status(&log_in_with(&bed, after, ADA, PASSWORD).await), 429);
}
