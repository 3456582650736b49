//! The users service after its migration: it replaces `users.ts`, and its gateway sees no difference.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, stream};
use nats_rpc::prelude::*;
use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{JwtConfigError, SecretKey};

#[derive(Clone, Serialize)]
struct User {
    id: String,
    name: String,
}

/// The state of the process. A real service would open a database here.
#[derive(Clone)]
struct Users(Arc<Mutex<Memory>>);

struct Memory {
    users: BTreeMap<String, User>,
    visits: HashMap<String, u32>,
}

impl Users {
    fn new() -> Self {
        let user = |id: &str, name: &str| (id.to_owned(), User { id: id.to_owned(), name: name.to_owned() });
        let users = BTreeMap::from([user("ada", "Ada"), user("bob", "Bob")]);
        Self(Arc::new(Mutex::new(Memory { users, visits: HashMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn own(&mut self, user_id: &str, me: &Claims) -> Result<&mut User, RpcError> {
        if me.sub != user_id {
            return Err(RpcError::forbidden("not your profile"));
        }
        self.users.get_mut(user_id).ok_or_else(|| RpcError::not_found("no such user"))
    }
}

/// The claims in the gateway's tokens.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    roles: Vec<String>,
}

impl Principal for Claims {
    fn subject(&self) -> &str {
        &self.sub
    }

    fn roles(&self) -> &[String] {
        &self.roles
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Who {
    user_id: String,
}

#[message_pattern("get_user_profile")]
#[use_guards(JwtGuard<Claims>)]
async fn profile(
    Auth(me): Auth<Claims>,
    State(users): State<Users>,
    Payload(who): Payload<Who>,
) -> Result<User, RpcError> {
    users.lock().own(&who.user_id, &me).cloned()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rename {
    user_id: String,
    name: serde_json::Value,
}

#[message_pattern("update_user_profile")]
#[use_guards(JwtGuard<Claims>)]
async fn rename(
    Auth(me): Auth<Claims>,
    State(users): State<Users>,
    Payload(wish): Payload<Rename>,
) -> Result<User, RpcError> {
    let mut memory = users.lock();
    let user = memory.own(&wish.user_id, &me)?;
    let name = wish.name.as_str().filter(|name| !name.is_empty());
    user.name = name.ok_or_else(|| RpcError::invalid_argument("a name is a text that is not empty"))?.to_owned();
    Ok(user.clone())
}

#[message_pattern({"cmd": "list_users"})]
#[use_guards(JwtGuard<Claims>, RequireRole::new("admin"))]
async fn list(State(users): State<Users>) -> Vec<User> {
    users.lock().users.values().cloned().collect()
}

#[message_pattern("count_visits")]
#[use_guards(JwtGuard<Claims>)]
async fn count(State(users): State<Users>, Payload(who): Payload<Who>) -> serde_json::Value {
    serde_json::json!({ "visits": users.lock().visits.get(&who.user_id).copied().unwrap_or_default() })
}

#[message_pattern("user_history")]
#[use_guards(JwtGuard<Claims>)]
async fn history(
    Auth(me): Auth<Claims>,
    State(users): State<Users>,
    Payload(who): Payload<Who>,
) -> Result<Streaming<impl Stream<Item = Result<String, RpcError>>>, RpcError> {
    let id = users.lock().own(&who.user_id, &me)?.id.clone();
    let steps = ["was created", "logged in", "logged out"].map(|step| Ok(format!("{id} {step}")));
    Ok(Streaming::new(stream::iter(steps)))
}

/// While both services run, they share one queue group, so that each visit goes to one of them.
#[event_pattern("user.visited", queue = "users")]
async fn visited(State(users): State<Users>, Payload(who): Payload<Who>) {
    *users.lock().visits.entry(who.user_id).or_default() += 1;
}

/// Returns the service, which verifies the gateway's own tokens.
///
/// # Errors
/// If the secret has fewer than 32 bytes.
pub fn service(secret: &str) -> Result<Service, JwtConfigError> {
    let guard = JwtGuard::<Claims>::nest_compatible(SecretKey::new("JWT_SECRET", secret)?)?;
    Ok(Service::new("users", "2.0.0")
        .handlers(handlers![profile, rename, list, history, count, visited])
        .provide(Users::new())
        .guard(guard))
}
