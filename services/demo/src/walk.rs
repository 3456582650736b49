//! The steps: normal use first, then requests that the system must reject, then key rotation.

mod keys;

use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::SecretKey;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::BoxError;
use crate::caller::{Answer, Caller};
use crate::report::Report;
use crate::system::System;

const PASSWORD: &str = "correct horse battery";
const PROFILE: &str = "/api/users/profile";
const GET_PROFILE: &str = "get_user_profile";
/// A request id as NestJS generates them: 21 hex digits.
const NEST_ID: &str = "88a5f0d6ac4d1830655c1";

/// Runs all steps against the system; `report` collects their outcomes.
///
/// It ends early if a step fails that later ones need.
pub async fn walk(system: &System, report: &mut Report) {
    let connected = async {
        let caller = Caller::connect(&system.nats_of("client"), system.gateway_url()).await?;
        Ok(("connected".to_owned(), caller))
    };
    let Some(caller) = report.step("connect", "a client of NATS and of HTTP", Box::pin(connected)).await else {
        return;
    };
    let Some([ada, eve]) = Box::pin(use_it(&caller, report)).await else { return };
    Box::pin(abuse_it(system, &caller, &ada, &eve, report)).await;
    Box::pin(crate::revoked::walk(&caller, report)).await;
    if system.has_key_ring() {
        Box::pin(keys::rotate(system, &caller, report)).await;
    }
}

/// A signed-up user, with the tokens of a live session.
struct User {
    id: String,
    email: String,
    access_token: String,
    refresh_token: String,
}

/// Runs the steps of normal use. Returns two users.
async fn use_it(caller: &Caller, report: &mut Report) -> Option<[User; 2]> {
    let email = format!("ada-{}@example.com", Uuid::now_v7());
    let signed_up = Box::pin(sign_up(caller, &email));
    let ada = report.step("sign-up", "201, a user id and two tokens", signed_up).await?;

    let credentials = json!({ "email": email, "password": PASSWORD });
    let logged_in = async {
        let answer = caller.post("/api/auth/login", None, &credentials).await?;
        match (answer.status, answer.text("accessToken"), answer.text("refreshToken")) {
            (200, Some(access), Some(refresh)) => Ok((answer.to_string(), [access.to_owned(), refresh.to_owned()])),
            _ => Err(answer.to_string().into()),
        }
    };
    let [access, refresh] = report.step("log-in", "200, two tokens", Box::pin(logged_in)).await?;
    let token = Some(access.as_str());

    let over_http = async { own_profile(&caller.post(PROFILE, token, &json!({})).await?, &ada) };
    report.step("profile over HTTP", "200, one's own", Box::pin(over_http)).await;
    let over_nats = async { own_profile(&caller.call(GET_PROFILE, token, &json!({})).await?, &ada) };
    report.step("profile over NATS, token in a header", "200, one's own", Box::pin(over_nats)).await;
    let as_nest = async {
        let envelope = json!({ "pattern": GET_PROFILE, "data": {}, "id": NEST_ID });
        let mut answer = caller.call_as_nest(GET_PROFILE, token, &envelope).await?;
        if answer["id"] != NEST_ID || answer["isDisposed"] != true {
            return Err("an answer in another envelope".into());
        }
        own_profile(&Answer { status: 200, body: answer["response"].take() }, &ada)
    };
    report.step("profile in NestJS's envelope", "response, isDisposed and id", Box::pin(as_nest)).await;

    let refreshed = async {
        let body = json!({ "refreshToken": refresh });
        let answer = caller.post("/api/auth/refresh", None, &body).await?;
        match (answer.status, answer.text("accessToken"), answer.text("refreshToken")) {
            (200, Some(new_access), Some(new_refresh)) if new_access != access && new_refresh != refresh => {
                Ok((answer.to_string(), new_refresh.to_owned()))
            }
            _ => Err(answer.to_string().into()),
        }
    };
    let refresh_token = report.step("refresh", "200, two other tokens", Box::pin(refreshed)).await?;
    let body = json!({ "refreshToken": refresh_token });
    let logged_out = async { status(&caller.post("/api/auth/logout", None, &body).await?, 200) };
    report.step("log-out", "200", Box::pin(logged_out)).await;
    let refused = async { status(&caller.post("/api/auth/refresh", None, &body).await?, 401) };
    report.step("refresh after log-out", "401", Box::pin(refused)).await;

    let email = format!("eve-{}@example.com", Uuid::now_v7());
    let signed_up = Box::pin(sign_up(caller, &email));
    let eve = report.step("sign-up of another user", "201, a user id and two tokens", signed_up).await?;
    Some([ada, eve])
}

/// Runs the requests that the system must reject, at the gateway and behind it.
async fn abuse_it(system: &System, caller: &Caller, ada: &User, eve: &User, report: &mut Report) {
    let wrong = json!({ "email": ada.email, "password": "incorrect horse battery" });
    let refused = async { status(&caller.post("/api/auth/login", None, &wrong).await?, 401) };
    report.step("wrong password", "401", Box::pin(refused)).await;

    let forged = match forge(&ada.id) {
        Ok(forged) => forged,
        Err(error) => return report.say(&format!("no token could be forged: {error}")),
    };
    let of_ada = json!({ "userId": ada.id });
    for (over_http, over_nats, token) in [
        ("no token over HTTP", "no token over NATS", None),
        ("forged token over HTTP", "forged token over NATS", Some(forged.as_str())),
        (
            "refresh token as access token over HTTP",
            "refresh token as access token over NATS",
            Some(ada.refresh_token.as_str()),
        ),
    ] {
        let at_the_gateway = refused_at_the_gateway(system, caller, token, &of_ada);
        report.step(over_http, "401, nothing sent over NATS", Box::pin(at_the_gateway)).await;
        let behind_it = async { status(&caller.call(GET_PROFILE, token, &of_ada).await?, 401) };
        report.step(over_nats, "401", Box::pin(behind_it)).await;
    }

    let token = Some(eve.access_token.as_str());
    let refused = async { status(&caller.post(PROFILE, token, &of_ada).await?, 403) };
    report.step("someone else's profile over HTTP", "403", Box::pin(refused)).await;
    let refused = async { status(&caller.call(GET_PROFILE, token, &of_ada).await?, 403) };
    report.step("someone else's profile over NATS", "403", Box::pin(refused)).await;
    let subject = format!("users.{}.get", ada.id);
    let refused = async { status(&caller.call(&subject, token, &json!({})).await?, 403) };
    report.step("someone else's profile by its subject", "403", Box::pin(refused)).await;

    let spoofed = json!({ "user": { "sub": ada.id, "userId": ada.id, "roles": ["admin"] } });
    let ignored = async { own_profile(&caller.post(PROFILE, token, &spoofed).await?, eve) };
    report.step("spoofed user in the body over HTTP", "200, one's own", Box::pin(ignored)).await;
    let ignored = async { own_profile(&caller.call(GET_PROFILE, token, &spoofed).await?, eve) };
    report.step("spoofed user in the body over NATS", "200, one's own", Box::pin(ignored)).await;
    let refused = async {
        let data = json!({ "userId": ada.id, "user": { "sub": ada.id, "email": ada.email } });
        let envelope = json!({ "pattern": GET_PROFILE, "data": data, "id": NEST_ID });
        let answer = caller.call_as_nest(GET_PROFILE, None, &envelope).await?;
        match answer["err"]["code"].as_str() {
            Some("UNAUTHENTICATED") => Ok(("UNAUTHENTICATED".to_owned(), ())),
            other => Err(other.unwrap_or("no error").into()),
        }
    };
    report.step("spoofed user in place of a token", "UNAUTHENTICATED", Box::pin(refused)).await;
}

async fn sign_up(caller: &Caller, email: &str) -> Result<(String, User), BoxError> {
    let body = json!({ "email": email, "password": PASSWORD });
    let answer = caller.post("/api/auth/signup", None, &body).await?;
    match (answer.text("userId"), answer.text("accessToken"), answer.text("refreshToken")) {
        (Some(id), Some(access), Some(refresh)) if answer.status == 201 => {
            let user = User {
                id: id.to_owned(),
                email: email.to_owned(),
                access_token: access.to_owned(),
                refresh_token: refresh.to_owned(),
            };
            Ok((answer.to_string(), user))
        }
        _ => Err(answer.to_string().into()),
    }
}

fn own_profile(answer: &Answer, user: &User) -> Result<(String, ()), BoxError> {
    match (answer.status, answer.text("userId"), answer.text("email")) {
        (200, Some(id), Some(email)) if id == user.id && email == user.email => Ok((answer.to_string(), ())),
        (200, Some(_), _) => Err("200, someone else's".into()),
        _ => Err(answer.to_string().into()),
    }
}

fn status(answer: &Answer, expected: u16) -> Result<(String, ()), BoxError> {
    if answer.status == expected { Ok((answer.to_string(), ())) } else { Err(answer.to_string().into()) }
}

async fn refused_at_the_gateway(
    system: &System,
    caller: &Caller,
    token: Option<&str>,
    body: &Value,
) -> Result<(String, ()), BoxError> {
    // A gateway that forwards the request waits for its reply, so it would be counted.
    let before = system.requests_to_users();
    let answer = caller.post(PROFILE, token, body).await?;
    match (answer.status, system.requests_to_users() - before) {
        (401, 0) => Ok((answer.to_string(), ())),
        (_, sent) => Err(format!("{answer}, {sent} sent over NATS").into()),
    }
}

/// Returns a token that makes `user` an admin, signed with a wrong secret.
fn forge(user: &str) -> Result<String, BoxError> {
    let secret = SecretKey::new("a guess", [7; 32])?;
    let roles = ["admin".to_owned()];
    Ok(TokenIssuer::hs256(&secret).issue(&Grant::new(user, "session").roles(&roles).scope("profile:read"))?)
}
