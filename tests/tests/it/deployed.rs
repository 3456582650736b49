//! The system as it is deployed: on the server of a file that is shipped, each part as the user that it is there.

use ::gateway::Gateway;
use nats_rpc::{Connection, ServiceHandle};
use nats_rpc_jwt::JwtGuard;
use nats_rpc_tests::secured::{Layout, Secured};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use users::{Replicas, Users};

use crate::support::soon;

const SECRET: &str = "an access secret of more than 32 bytes";
const REFRESH_SECRET: &str = "a refresh secret of more than 32 bytes";
const PASSWORD: &str = "correct horse battery";

/// auth, users and the gateway while they run.
pub(crate) struct Deployed {
    pub(crate) secured: Secured,
    pub(crate) auth: ServiceHandle,
    pub(crate) users: ServiceHandle,
    gateway_url: String,
    http: reqwest::Client,
    _gateway: oneshot::Sender<()>,
}

/// Whose word the services take for who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Tokens of one secret.
    Secret,
    /// Tokens of the key ring.
    Ring,
    /// The gateway's, by the ring of its own keys.
    Assertions,
}

impl Deployed {
    /// Creates the buckets as `deploy`, then starts everything, with tokens of one secret.
    pub(crate) async fn start() -> Self {
        Self::start_with(Trust::Secret).await
    }

    pub(crate) async fn start_with(trust: Trust) -> Self {
        Self::start_on(Layout::Accounts, trust).await
    }

    pub(crate) async fn start_on(layout: Layout, trust: Trust) -> Self {
        let secured = Secured::start_with(layout);
        provision(&secured).await;
        let vars = move |name: &str| var(trust, name);
        let auth = soon(::auth::service(vars).start(secured.config("auth"))).await.unwrap();
        let guarded = users::service(vars).guard(move |config| JwtGuard::from_vars(config, vars));
        let users = soon(guarded.start(secured.config("users"))).await.unwrap();
        let settings = gateway::Config::from_vars(vars).unwrap();
        let gateway = soon(Gateway::bind(settings, secured.config("gateway"))).await.unwrap();
        let gateway_url = format!("http://{}", gateway.local_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(gateway.serve_with_shutdown(async { drop(stopped.await) }));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { secured, auth, users, gateway_url, http, _gateway: stop }
    }

    /// Second instances of auth and users.
    pub(crate) async fn second(&self, trust: Trust) -> [ServiceHandle; 2] {
        let vars = move |name: &str| var(trust, name);
        let auth = soon(::auth::service(vars).start(self.secured.config("auth"))).await.unwrap();
        let guarded = users::service(vars).guard(move |config| JwtGuard::from_vars(config, vars));
        [auth, soon(guarded.start(self.secured.config("users"))).await.unwrap()]
    }

    /// Status and body of a `POST` to the gateway.
    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.gateway_url)).json(body);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = soon(request.send()).await.unwrap();
        (response.status().as_u16(), soon(response.json()).await.unwrap())
    }

    /// The answer to a sign-up: user id and tokens.
    pub(crate) async fn sign_up(&self, email: &str) -> Value {
        let (status, user) = self.post("/api/auth/signup", None, &credentials(email)).await;
        assert_eq!(status, 201, "{user}");
        user
    }
}

pub(crate) fn credentials(email: &str) -> Value {
    json!({ "email": email, "password": PASSWORD })
}

/// Creates all buckets as the users that may.
pub(crate) async fn provision(secured: &Secured) {
    let jetstream = async |user| soon(Connection::open(&secured.config(user))).await.unwrap().jetstream();
    soon(::auth::provision_own(&jetstream(secured.layout.deploys_auth()).await, Replicas::ONE)).await.unwrap();
    soon(Users::provision(&jetstream("deploy").await, Replicas::ONE)).await.unwrap();
}

fn var(trust: Trust, name: &str) -> Option<String> {
    let value = match name {
        "JWT_SECRET" if trust == Trust::Secret => SECRET,
        "JWT_REFRESH_SECRET" => REFRESH_SECRET,
        "GATEWAY_SEND_ASSERTIONS" | "JWT_ACCEPT_ASSERTIONS" if trust == Trust::Assertions => "true",
        "GATEWAY_ADDRESS" => "127.0.0.1:0",
        // Time enough for a machine that does much else.
        "GATEWAY_TIMEOUT_MS" => "30000",
        "BCRYPT_COST" => "10",
        _ => return None,
    };
    Some(value.to_owned())
}
