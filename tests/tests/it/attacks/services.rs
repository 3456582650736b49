//! The running services, and a listener to what they send.

use futures::StreamExt;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Client, Connection, ServiceHandle};
use nats_rpc_jwt::{JwtConfig, JwtGuard, UserClaims};
use serde_json::{Value, json};
use users::{Profile, Replicas, UserId, Users};

use super::capture;
use super::forge::SECRET;
use crate::support::{foreign, nats, soon};

pub(super) const REFRESH_SECRET: &str = "the refresh secret of the hostile cases";
pub(super) const PASSWORD: &str = "correct horse battery";

/// The auth service with `vars` beside its secrets, its buckets made before.
pub(super) async fn auth(server: &NatsServer, vars: &[(&'static str, &'static str)]) -> ServiceHandle {
    let connection = soon(Connection::open(&nats(server))).await.unwrap();
    soon(::auth::provision(&connection.jetstream(), Replicas::ONE)).await.unwrap();
    let mut known = vec![
        ("JWT_SECRET", SECRET),
        ("JWT_REFRESH_SECRET", REFRESH_SECRET),
        ("BCRYPT_COST", "10"),
        ("SIGN_UPS_PER_MINUTE", "60000"),
        ("LOG_INS_PER_MINUTE", "60000"),
    ];
    known.extend(vars);
    capture::secret(SECRET);
    capture::secret(REFRESH_SECRET);
    let service = ::auth::service(move |name| {
        known.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    });
    soon(Box::pin(service.start(nats(server)))).await.unwrap()
}

/// The users service before a guard as `config` says, with its buckets.
pub(super) struct UsersService {
    users: Users,
    _running: ServiceHandle,
}

pub(super) async fn users(server: &NatsServer, config: JwtConfig) -> UsersService {
    let connection = soon(Connection::open(&nats(server))).await.unwrap();
    soon(::auth::provision(&connection.jetstream(), Replicas::ONE)).await.unwrap();
    let service = ::users::service(|_| None).guard(JwtGuard::<UserClaims>::new(config).unwrap());
    let running = soon(Box::pin(service.start(nats(server)))).await.unwrap();
    UsersService { users: soon(Users::open(&connection)).await.unwrap(), _running: running }
}

/// Writes a profile and gives the user's id.
pub(super) async fn profile(service: &UsersService, email: &str) -> String {
    let id = UserId::generate();
    assert!(soon(service.users.create(&Profile::new(id, email))).await.unwrap());
    id.to_string()
}

/// A user who has signed up.
pub(super) struct User {
    pub(super) id: String,
    pub(super) access_token: String,
    pub(super) refresh_token: String,
}

pub(super) async fn sign_up(client: &Client, email: &str) -> User {
    let answer: Value = client.send("auth.signup", &credentials(email, PASSWORD)).await.unwrap();
    let text = |field: &str| answer[field].as_str().unwrap().to_owned();
    User {
        id: text("userId"),
        access_token: capture::secret(text("accessToken")),
        refresh_token: capture::secret(text("refreshToken")),
    }
}

pub(super) fn credentials(email: &str, password: &str) -> Value {
    json!({ "email": email, "password": capture::secret(password) })
}

/// Hears what is sent in the account.
pub(super) struct Wiretap {
    nats: async_nats::Client,
    heard: async_nats::Subscriber,
    end: String,
}

impl Wiretap {
    pub(super) async fn on(server: &NatsServer, subjects: &'static str) -> Self {
        let nats = foreign(server).await;
        let heard = nats.subscribe(subjects).await.unwrap();
        nats.flush().await.unwrap();
        let end = match subjects.strip_suffix('>') {
            Some(stem) => format!("{stem}wiretap.over"),
            None => panic!("a wiretap hears all below a subject"),
        };
        Self { nats, heard, end }
    }

    /// The subjects of all messages since it was put on, in order. What was sent before an answer that the
    /// caller has seen is among them.
    pub(super) async fn heard(mut self) -> Vec<String> {
        self.nats.publish(self.end.clone(), "".into()).await.unwrap();
        let mut subjects = Vec::new();
        loop {
            let message = soon(self.heard.next()).await.unwrap();
            if message.subject.as_str() == self.end {
                return subjects;
            }
            subjects.push(message.subject.to_string());
        }
    }
}
