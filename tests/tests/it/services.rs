//! The services together, on real nats-servers: accounts, profiles, HTTP.
//!
//! The faults of the system that this one reproduces, and the test that shows each to be gone. Those not
//! listed are of NestJS's modules alone.
//!
//! | fault | test |
//! |---|---|
//! | the user's id is lost on the way, without an error | `users::one_sees_ones_own_profile_with_id_and_email` |
//! | two checks of a token that disagree | `gateway::a_bad_token_is_refused_and_no_service_hears_of_it` |
//! | default secrets; settings read too early | `auth::secrets_that_are_missing_short_or_equal_stop_the_start` |
//! | a `user` in the body is believed | `users::a_user_in_the_body_proves_nothing` |
//! | no guard on the handler | `users::the_service_does_not_start_without_its_guard`, `demo::the_walk_fails_*` |
//! | anyone reads anyone's profile | `users::nobody_but_an_admin_sees_other_profiles` |
//! | no data is a crash | `gateway::what_is_no_request_is_answered_and_never_passed_on` |
//! | 401 and 403 are the same; every error is a 500 | `gateway::every_code_has_its_status` |
//! | a dead or a silent service hangs the caller | `gateway::a_service_that_is_down_is_503_and_a_slow_one_504` |
//! | each instance executes each request | `users::two_instances_share_the_requests_and_each_is_executed_once` |
//! | a refresh token is an access token; tokens of one second are equal | `demo::the_walk_succeeds`, `auth::a_refresh_token_is_good_for_one_use` |
//! | no rotation, no reuse detection, no log-out | `auth::a_refresh_token_is_good_for_one_use`, `auth::a_log_out_ends_the_session_and_can_be_repeated` |
//! | roles and address copied from the old token | `auth::roles_are_those_of_the_account_at_each_refresh`, `auth::without_its_account_a_session_ends` |
//! | a bad refresh token is a 500 | `auth::a_refresh_token_is_good_for_one_use` |
//! | a password is cut at 72 bytes; none is a 500 | `auth::a_password_that_cannot_be_hashed_whole_is_refused` |
//! | the time of a log-in tells who has an account | `passwords::an_unknown_user_and_a_wrong_password_look_and_cost_the_same` |
//! | one cost of hashing for ever | `auth::a_log_in_hashes_anew_what_was_hashed_too_cheaply` |
//! | one malformed answer ends the gateway | `gateway::an_unreadable_answer_is_500_and_the_gateway_lives` |
//! | 201 for a read | `users::one_sees_ones_own_profile_with_id_and_email` |

mod attacked;
mod audit;
mod auth;
mod deletion;
mod devices;
mod endings;
mod followed;
mod gateway;
mod guesses;
mod held;
mod log_in_queue;
mod migrated;
mod networks;
mod new_keys;
mod passwords;
mod refresh;
mod revocation;
mod sign_ups;
mod tampering;
mod users;

use std::time::Duration;

use ::demo::{Options, Report, System};
use nats_rpc::Client;
use nats_rpc::testing::NatsServer;
use nats_rpc_jwt::{JwtGuard, SecretKey};
use nats_rpc_tests::server;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::{client, nats, soon};

const SECRET: &str = "an access secret of more than 32 bytes";
const REFRESH_SECRET: &str = "a refresh secret of more than 32 bytes";
const ASSERTION_SECRET: &str = "an assertion secret of more than 32 bytes";
const PASSWORD: &str = "correct horse battery";

/// The whole system on a server of its own.
struct Bed {
    system: System,
    client: Client,
    http: reqwest::Client,
    server: NatsServer,
}

/// A user who has signed up.
struct User {
    id: String,
    access_token: String,
    refresh_token: String,
}

impl Bed {
    async fn start() -> Self {
        Self::start_with(|options| options).await
    }

    async fn start_with(configure: impl FnOnce(Options) -> Options) -> Self {
        Self::start_on(server(), |server| configure(options(server))).await
    }

    async fn start_on(server: NatsServer, options: impl FnOnce(&NatsServer) -> Options) -> Self {
        let system = soon(System::start(options(&server), &mut Report::silent())).await.unwrap();
        Self { system, client: client(&server).await, http: http(), server }
    }

    async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.system.gateway_url())).json(body);
        answer(match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    async fn sign_up(&self, email: &str) -> User {
        let body = json!({ "email": email, "password": PASSWORD });
        let (status, body) = self.post("/api/auth/signup", None, &body).await;
        assert_eq!(status, 201, "{body}");
        User::of(&body)
    }

    async fn log_in(&self, email: &str, password: &str) -> (u16, Value) {
        self.post("/api/auth/login", None, &json!({ "email": email, "password": password })).await
    }

    /// What a command of the auth program prints, such as `auth users lock ada@example.com`.
    async fn command(&self, words: &[&str]) -> String {
        let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_auth-program"));
        let program = program.args(words).env("NATS_URL", self.server.url()).kill_on_drop(true);
        let ran = soon(program.output()).await.unwrap();
        assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim_end().to_owned()
    }

    async fn refresh(&self, refresh_token: &str) -> (u16, Value) {
        self.post("/api/auth/refresh", None, &json!({ "refreshToken": refresh_token })).await
    }
}

impl User {
    fn of(answer: &Value) -> Self {
        let text = |field: &str| answer[field].as_str().unwrap_or_else(|| panic!("no {field}")).to_owned();
        Self { id: text("userId"), access_token: text("accessToken"), refresh_token: text("refreshToken") }
    }
}

/// Known secrets, and time enough for a machine that does much else.
fn options(server: &NatsServer) -> Options {
    Options::new(nats(server))
        .var("JWT_SECRET", SECRET)
        .var("JWT_REFRESH_SECRET", REFRESH_SECRET)
        .var("JWT_ASSERTION_SECRET", ASSERTION_SECRET)
        .var("GATEWAY_TIMEOUT_MS", "30000")
}

fn guard() -> JwtGuard {
    let secret = SecretKey::new("JWT_SECRET", SECRET).unwrap();
    JwtGuard::new(nats_rpc_jwt::JwtConfig::hs256(secret)).unwrap()
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap()
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = soon(request.send()).await.unwrap();
    let status = response.status().as_u16();
    let body: Value = soon(response.json()).await.unwrap();
    if status >= 400 {
        assert!(body["code"].is_string() && body["message"].is_string(), "{status}: {body}");
    }
    (status, body)
}
