//! The whole system in this process: auth, two instances of users, and the gateway.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gateway::{Gateway, GatewayError};
use nats_rpc::{CallError, Client, Connection, NatsConfig, Service, ServiceHandle};
use nats_rpc_jwt::JwtGuard;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use users::{Replicas, Users};

use crate::BoxError;
use crate::logins::Logins;
use crate::report::Report;

/// Number of instances of users.
const INSTANCES: usize = 2;

/// The configuration of the system.
///
/// Tests can replace the users service and the gateway, which enforce access, to prove that the walk detects their
/// absence.
#[must_use]
pub struct Options {
    nats: Logins,
    vars: Vec<(&'static str, String)>,
    users: Option<Box<dyn Fn() -> Service + Send + Sync>>,
    gateway_url: Option<String>,
}

impl Options {
    /// Returns a system on the nats-server of `nats`.
    ///
    /// It has a key ring, a new random secret, and a gateway on a free port of this machine.
    ///
    /// `nats` is one login for all parts ([`NatsConfig`]), or one for each.
    pub fn new(nats: impl Into<Logins>) -> Self {
        let vars = vec![
            ("JWT_REFRESH_SECRET", random_secret()),
            ("GATEWAY_ADDRESS", "127.0.0.1:0".to_owned()),
            // All verifiers are in this process, so a short activation delay of new keys is enough.
            ("KEY_ACTIVATION_DELAY_MS", "250".to_owned()),
            // The cost of the seed, low enough for a demo.
            ("BCRYPT_COST", "10".to_owned()),
        ];
        Self { nats: nats.into(), vars, users: None, gateway_url: None }
    }

    /// Returns the same as [`new`](Self::new), with the settings of the environment.
    pub(crate) fn from_env(nats: Logins) -> Self {
        let mut options = Self::new(nats);
        for (name, value) in &mut options.vars {
            if let Ok(set) = std::env::var(*name)
                && !set.is_empty()
            {
                *value = set;
            }
        }
        options
    }

    /// Sets one setting of the services.
    pub fn var(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.vars.retain(|(known, _)| *known != name);
        self.vars.push((name, value.into()));
        self
    }

    /// Replaces the users service by this one.
    pub fn users(mut self, service: impl Fn() -> Service + Send + Sync + 'static) -> Self {
        self.users = Some(Box::new(service));
        self
    }

    /// Uses the gateway that runs at `url` instead of starting one.
    pub fn gateway_url(mut self, url: impl Into<String>) -> Self {
        self.gateway_url = Some(url.into());
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("nats", &self.nats).finish_non_exhaustive()
    }
}

/// The running system.
#[must_use = "dropping it ends everything at once"]
#[derive(Debug)]
pub struct System {
    nats: Logins,
    auth: ServiceHandle,
    users: Vec<ServiceHandle>,
    gateway: Option<OwnGateway>,
    gateway_url: String,
    has_key_ring: bool,
}

#[derive(Debug)]
struct OwnGateway {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), GatewayError>>,
}

impl System {
    /// Creates the buckets and starts all parts; each part is a step of `report`.
    ///
    /// # Errors
    /// If a part does not start; the report names the part and the cause.
    pub async fn start(options: Options, report: &mut Report) -> Result<Self, BoxError> {
        let Options { nats, vars, users, gateway_url } = options;
        let vars = Arc::new(vars);
        let vars = move |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());

        let failed = |what: &str| -> BoxError { format!("{what} does not start").into() };
        let step = report.step("provision", "the buckets, and no other services", Box::pin(provision(&nats)));
        step.await.ok_or_else(|| failed("the system"))?;

        let auth = auth::service(vars.clone());
        let auth = async { Ok(("listening".to_owned(), auth.start(nats.of("auth")).await?)) };
        let auth = report.step("start auth", "handlers that listen", Box::pin(auth)).await;
        let auth = auth.ok_or_else(|| failed("auth"))?;

        let instances = async {
            let mut instances = Vec::new();
            for _ in 0..INSTANCES {
                let service = match &users {
                    Some(replacement) => replacement(),
                    None => {
                        let vars = vars.clone();
                        users::service(vars.clone()).guard(|config| JwtGuard::from_vars(config, vars))
                    }
                };
                instances.push(service.start(nats.of("users")).await?);
            }
            Ok((format!("{INSTANCES} listening"), instances))
        };
        let users = report.step("start users", "two instances that listen", Box::pin(instances)).await;
        let users = users.ok_or_else(|| failed("users"))?;

        let gateway = async {
            if let Some(url) = gateway_url {
                return Ok((url.clone(), (None, url)));
            }
            let gateway = Gateway::bind(gateway::Config::from_vars(&vars)?, nats.of("gateway")).await?;
            let url = format!("http://{}", gateway.local_addr());
            let (stop, stopped) = oneshot::channel();
            let serving = tokio::spawn(gateway.serve_with_shutdown(async { drop(stopped.await) }));
            Ok((url.clone(), (Some(OwnGateway { stop, serving }), url)))
        };
        let gateway = report.step("start gateway", "HTTP on a free port", Box::pin(gateway)).await;
        let (gateway, gateway_url) = gateway.ok_or_else(|| failed("the gateway"))?;
        let has_key_ring = vars("JWT_SECRET").is_none();
        Ok(Self { nats, auth, users, gateway, gateway_url, has_key_ring })
    }

    /// Returns the gateway's URL, such as `http://127.0.0.1:41234`.
    pub fn gateway_url(&self) -> &str {
        &self.gateway_url
    }

    /// Returns `true` if keys of a ring sign tokens, instead of `JWT_SECRET`.
    pub fn has_key_ring(&self) -> bool {
        self.has_key_ring
    }

    /// Returns the configuration with which `user` connects to the system's nats-server.
    pub fn nats_of(&self, user: &str) -> NatsConfig {
        self.nats.of(user)
    }

    /// Returns the number of requests to the instances of users. Events do not count, because they arrive at any time.
    pub(crate) fn requests_to_users(&self) -> u64 {
        let handlers = self.users.iter().flat_map(ServiceHandle::stats);
        handlers.filter(|stats| stats.handler != "user_created").map(|stats| stats.requests).sum()
    }

    /// Returns the auth service.
    pub fn auth(&self) -> &ServiceHandle {
        &self.auth
    }

    /// Returns the instances of users.
    pub fn users(&self) -> &[ServiceHandle] {
        &self.users
    }

    /// Shuts down the instances of users only.
    pub async fn stop_users(&mut self) {
        for users in self.users.drain(..) {
            users.stop().await;
        }
    }

    /// Shuts down all parts without losing a request, the gateway first.
    pub async fn stop(mut self) {
        if let Some(OwnGateway { stop, serving }) = self.gateway.take() {
            drop(stop);
            // The log has its error, if there was one.
            let _ = serving.await;
        }
        self.stop_users().await;
        self.auth.stop().await;
    }
}

/// Creates the buckets, on a server without other instances of the services.
async fn provision(nats: &Logins) -> Result<(String, ()), BoxError> {
    let client = Client::connect(&nats.of("client")).await?.no_responders_timeout(Duration::ZERO);
    for subject in ["auth.login", "get_user_profile"] {
        match client.send::<Value>(subject, &json!({})).await {
            Err(CallError::NoResponders { .. }) => {}
            // They would share the requests with this system's instances, but have other secrets.
            _ => return Err(format!("others already answer {subject:?} on this nats-server").into()),
        }
    }
    let of_auth = Connection::open(&nats.of("deploy_auth")).await?;
    auth::provision_own(&of_auth.jetstream(), Replicas::ONE).await?;
    let of_users = Connection::open(&nats.of("deploy")).await?;
    Users::provision(&of_users.jetstream(), Replicas::ONE).await?;
    Ok(("the buckets of auth and of users".to_owned(), ()))
}

/// Returns 64 random hex digits.
fn random_secret() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system gives random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
