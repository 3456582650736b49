//! The two guarded patterns, with the guards and the secret (far too short) of the NestJS program.
//!
//! In your own service, use [`nats_rpc_jwt::JwtGuard`]: it rejects such a secret, and replies 401 and 403.

use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use nats_rpc::Route;
use nats_rpc::prelude::*;
use serde_json::{Value, json};

pub(crate) fn routes() -> Vec<&'static Route> {
    handlers![echo, user]
}

/// The claims of the token, whatever they are.
struct Claims(Value);

impl Principal for Claims {
    fn subject(&self) -> &str {
        self.0["sub"].as_str().unwrap_or_default()
    }
}

/// # Errors
/// The error text of `jsonwebtoken`, the package that NestJS uses.
fn verify(token: &str) -> Result<Arc<Claims>, &'static str> {
    let secret = std::env::var("JWT_SECRET").unwrap_or_else(|_| "dev-secret".to_owned());
    let mut rules = Validation::new(Algorithm::HS256);
    rules.required_spec_claims.clear();
    rules.validate_aud = false;
    rules.validate_nbf = true;
    rules.leeway = 0;
    match jsonwebtoken::decode(token, &DecodingKey::from_secret(secret.as_bytes()), &rules) {
        Ok(token) => Ok(Arc::new(Claims(token.claims))),
        Err(_) if token.ends_with('.') => Err("jwt signature is required"),
        Err(error) => Err(match error.kind() {
            ErrorKind::InvalidToken => "jwt malformed",
            ErrorKind::InvalidSignature => "invalid signature",
            ErrorKind::InvalidAlgorithm => "invalid algorithm",
            ErrorKind::ExpiredSignature => "jwt expired",
            ErrorKind::ImmatureSignature => "jwt not active",
            _ => "invalid token",
        }),
    }
}

/// A `canActivate` that returns false.
struct SilentGuard(());

impl Guard for SilentGuard {
    async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError> {
        let token = request.header("authorization").map(|text| text.strip_prefix("Bearer ").unwrap_or(text));
        if token.is_none_or(|token| verify(token).is_err()) {
            let body = json!({ "status": "error", "message": "Forbidden resource" });
            return Err(RpcError::forbidden("Forbidden resource").with_body(body));
        }
        Ok(())
    }
}

/// A `canActivate` that throws an `RpcException` with an object.
struct TellingGuard(());

impl Guard for TellingGuard {
    async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError> {
        let refused = |message: &'static str| {
            let body = json!({ "status": 401, "code": "UNAUTHENTICATED", "message": message });
            RpcError::unauthenticated(message).with_body(body)
        };
        let header = request.header("authorization").ok_or_else(|| refused("no token"))?;
        let token = header.strip_prefix("Bearer ").unwrap_or(header);
        let claims = verify(token).map_err(refused)?;
        request.set_principal(claims);
        Ok(())
    }

    fn proves(&self) -> Option<std::any::TypeId> {
        Some(std::any::TypeId::of::<Claims>())
    }
}

#[message_pattern("secure.echo")]
#[use_guards(SilentGuard(()))]
async fn echo(Payload(data): Payload<Value>) -> Value {
    data
}

#[message_pattern("secure.user")]
#[use_guards(TellingGuard(()))]
async fn user(Auth(me): Auth<Claims>, Payload(data): Payload<Value>) -> Value {
    json!({ "user": me.0, "data": data })
}
