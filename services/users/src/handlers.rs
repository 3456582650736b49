//! Handlers of requests and events.

use nats_rpc::prelude::*;
use nats_rpc_jwt::prelude::*;
use schemars::JsonSchema;

use crate::profile::{Profile, ProfileChange, UserId, Users};

/// Role that may read the profiles of other users.
const ADMIN: &str = "admin";

/// The user whose profile is requested; the caller if the id is absent.
#[derive(JsonSchema, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetProfile {
    #[serde(default)]
    user_id: Option<String>,
}

/// The event `user.created`, a notification: consumers that need more request the profile.
#[derive(Clone, Debug, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserCreated {
    /// The new user's id.
    pub user_id: UserId,
}

#[message_pattern("get_user_profile")]
#[use_guards(JwtGuard, RequireScope::new("profile:read"))]
async fn get_user_profile(
    Auth(me): Auth<UserClaims>,
    State(users): State<Users>,
    Payload(query): Payload<GetProfile>,
) -> Result<Profile, RpcError> {
    let id = readable(&me, query.user_id.as_deref().unwrap_or(&me.sub))?;
    users.find(id).await?.ok_or_else(no_such_user)
}

#[message_pattern("users.{id}.get")]
#[use_guards(JwtGuard, RequireScope::new("profile:read"))]
async fn get_user(
    Auth(me): Auth<UserClaims>,
    State(users): State<Users>,
    Param(id): Param<String>,
) -> Result<Profile, RpcError> {
    users.find(readable(&me, &id)?).await?.ok_or_else(no_such_user)
}

#[message_pattern("update_user_profile")]
#[use_guards(JwtGuard, RequireScope::new("profile:write"))]
async fn update_user_profile(
    Auth(me): Auth<UserClaims>,
    State(users): State<Users>,
    Payload(change): Payload<ProfileChange>,
) -> Result<Profile, RpcError> {
    let id = UserId::parse(&me.sub).ok_or_else(no_such_user)?;
    users.change(id, &change).await?.ok_or_else(no_such_user)
}

/// Any client that may publish can send this event, so the handler trusts nothing in it.
#[event_pattern("user.created")]
async fn user_created(Payload(event): Payload<UserCreated>) {
    tracing::info!(user = %event.user_id, "a user signed up");
}

/// Returns the id in `wanted`, if `me` may read that user's profile.
///
/// A caller without permission learns nothing, not even whether the id is well formed.
fn readable(me: &UserClaims, wanted: &str) -> Result<UserId, RpcError> {
    if wanted != me.sub && !me.roles.iter().any(|role| role == ADMIN) {
        return Err(RpcError::forbidden("not your profile"));
    }
    UserId::parse(wanted).ok_or_else(no_such_user)
}

fn no_such_user() -> RpcError {
    RpcError::not_found("no such user")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reads_ones_own_profile_and_an_admin_any() {
        let (mine, theirs) = (UserId::generate(), UserId::generate());
        let me = UserClaims::new(mine.to_string());
        assert_eq!(readable(&me, &mine.to_string()).unwrap(), mine);
        for other in [theirs.to_string().as_str(), "", "a.b", "*", ">"] {
            assert_eq!(readable(&me, other).unwrap_err().code(), Code::PermissionDenied, "{other:?}");
        }
        let admin = me.with_roles(["admin"]);
        assert_eq!(readable(&admin, &theirs.to_string()).unwrap(), theirs);
        assert_eq!(readable(&admin, "a.b").unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn no_other_role_reads_other_profiles() {
        let me = UserClaims::new("u").with_roles(["Admin", "admin ", "administrator"]).with_scope("admin");
        assert!(readable(&me, "v").is_err());
    }
}
