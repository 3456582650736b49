//! The steps that end a session, and the time until every service rejects its tokens.

use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use crate::BoxError;
use crate::caller::{Answer, Caller};
use crate::report::Report;

const PASSWORD: &str = "correct horse battery";
/// Longer than any revocation takes, so that a missing one fails the step.
const PATIENCE: Duration = Duration::from_secs(10);

/// Replays a stolen refresh token, logs out, and logs out everywhere; each time, running services must reject the
/// access token too.
pub(crate) async fn walk(caller: &Caller, report: &mut Report) {
    let theft = Box::pin(steal(caller));
    report.step("stolen refresh token", "401, and its session has ended", theft).await;
    let logged_out = Box::pin(log_out(caller));
    report.step("access token after log-out", "401 from users, at once", logged_out).await;
    let everywhere = Box::pin(log_out_everywhere(caller));
    report.step("log-out everywhere", "401 for both sessions, at once", everywhere).await;
}

/// The tokens of a session.
struct Tokens {
    access: String,
    refresh: String,
}

impl Tokens {
    fn of(answer: &Answer) -> Result<Self, BoxError> {
        match (answer.text("accessToken"), answer.text("refreshToken")) {
            (Some(access), Some(refresh)) => Ok(Self { access: access.to_owned(), refresh: refresh.to_owned() }),
            _ => Err(format!("no tokens: {answer}").into()),
        }
    }
}

/// Presents a refresh token whose successor the owner has used.
///
/// Reuse detection ends the session for both, because the service cannot tell which of them stole the token.
async fn steal(caller: &Caller) -> Result<(String, ()), BoxError> {
    let first = sign_up(caller, &email()).await?;
    let second = refresh(caller, &first).await?;
    let third = refresh(caller, &second).await?;
    works(caller, &third).await?;
    expect(&caller.post("/api/auth/refresh", None, &json!({ "refreshToken": first.refresh })).await?, 401)?;
    let took = refused(caller, &third).await?;
    expect(&caller.post("/api/auth/refresh", None, &json!({ "refreshToken": third.refresh })).await?, 401)?;
    Ok((format!("401; users refuses the victim's access token {} ms later", took.as_millis()), ()))
}

async fn log_out(caller: &Caller) -> Result<(String, ()), BoxError> {
    let tokens = sign_up(caller, &email()).await?;
    works(caller, &tokens).await?;
    expect(&caller.post("/api/auth/logout", None, &json!({ "refreshToken": tokens.refresh })).await?, 200)?;
    let took = refused(caller, &tokens).await?;
    expect(&caller.post("/api/users/profile", Some(&tokens.access), &json!({})).await?, 401)?;
    Ok((format!("401 after {} ms", took.as_millis()), ()))
}

async fn log_out_everywhere(caller: &Caller) -> Result<(String, ()), BoxError> {
    let email = email();
    let here = sign_up(caller, &email).await?;
    let there = json!({ "email": email, "password": PASSWORD });
    let there = Tokens::of(&caller.post("/api/auth/login", None, &there).await?)?;
    let listed = caller.call("auth.sessions", Some(&here.access), &json!({})).await?;
    let sessions = listed.body["sessions"].as_array().map_or(0, Vec::len);
    if sessions != 2 {
        return Err(format!("{sessions} sessions in place of two").into());
    }
    works(caller, &there).await?;
    expect(&caller.post("/api/auth/logout-all", Some(&here.access), &json!({})).await?, 200)?;
    let took = refused(caller, &there).await?.max(refused(caller, &here).await?);
    for tokens in [&here, &there] {
        expect(&caller.post("/api/auth/refresh", None, &json!({ "refreshToken": tokens.refresh })).await?, 401)?;
    }
    let again = json!({ "email": email, "password": PASSWORD });
    works(caller, &Tokens::of(&caller.post("/api/auth/login", None, &again).await?)?).await?;
    Ok((format!("401 after {} ms; a new log-in works", took.as_millis()), ()))
}

fn email() -> String {
    format!("rea-{}@example.com", Uuid::now_v7())
}

async fn sign_up(caller: &Caller, email: &str) -> Result<Tokens, BoxError> {
    let body = json!({ "email": email, "password": PASSWORD });
    Tokens::of(&caller.post("/api/auth/signup", None, &body).await?)
}

async fn refresh(caller: &Caller, tokens: &Tokens) -> Result<Tokens, BoxError> {
    Tokens::of(&caller.post("/api/auth/refresh", None, &json!({ "refreshToken": tokens.refresh })).await?)
}

/// Requests the profile from the service directly, without a gateway in between; the access token must be accepted.
async fn works(caller: &Caller, tokens: &Tokens) -> Result<(), BoxError> {
    expect(&caller.call("get_user_profile", Some(&tokens.access), &json!({})).await?, 200)
}

/// Returns the time until the service rejects the access token that it accepted before.
async fn refused(caller: &Caller, tokens: &Tokens) -> Result<Duration, BoxError> {
    let began = Instant::now();
    let mut refusals = 0;
    // Two instances share the requests: both have to reject it.
    while refusals < 8 {
        match caller.call("get_user_profile", Some(&tokens.access), &json!({})).await?.status {
            401 => refusals += 1,
            _ if began.elapsed() > PATIENCE => return Err("the access token still works".into()),
            _ => refusals = 0,
        }
    }
    Ok(began.elapsed())
}

fn expect(answer: &Answer, status: u16) -> Result<(), BoxError> {
    if answer.status == status { Ok(()) } else { Err(answer.to_string().into()) }
}
