//! Service credentials, for operations that no user may perform, such as token introspection.

mod credential;

use std::any::TypeId;
use std::error::Error;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, kv};
use nats_rpc::kv::revision;
use nats_rpc::{Connection, Guard, KvBucket, KvError, Principal, Request, RpcError, from_json};
use serde::{Deserialize, Serialize};

use self::credential::Credential;

const BUCKET: &str = "auth_services";
const MAX_RECORD_BYTES: i32 = 1024;

/// The credentials of services, in the KV bucket `auth_services`; also a guard that accepts them.
///
/// A credential is `nsc1.<service>.<secret>` and travels as a bearer token, but is not a JWT: no user's token is
/// accepted as a credential, whatever its roles, and no credential as a token. It allows the scopes granted with it,
/// which [`RequireScope`](nats_rpc::RequireScope) checks. The bucket holds digests only. The guard reads it on each
/// request, so a removed credential is rejected from the next request on.
///
/// ```no_run
/// use nats_rpc_auth::{ServiceClaims, ServiceCredentials};
/// use nats_rpc::prelude::*;
///
/// #[message_pattern("auth.introspect")]
/// #[use_guards(ServiceCredentials, RequireScope::new("introspect"))]
/// async fn introspect(Auth(service): Auth<ServiceClaims>) -> String {
///     format!("{} asks", service.name)
/// }
///
/// let service = Service::new("auth", "1.0.0")
///     .handlers(handlers![introspect])
///     .guard(async |context: ServiceContext| ServiceCredentials::open(context.connection()).await);
/// ```
#[derive(Debug)]
pub struct ServiceCredentials(KvBucket);

/// An authenticated service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceClaims {
    /// Its name.
    pub name: String,
    /// Its scopes, separated by one space each.
    pub scope: String,
}

impl Principal for ServiceClaims {
    fn subject(&self) -> &str {
        &self.name
    }

    fn scope(&self) -> &str {
        &self.scope
    }
}

/// The reason why a credential was not created, removed, or verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceCredentialError {
    /// An invalid service name: it must be 1 to 32 of `a-z`, `0-9`, `-` and `_`.
    #[error("a service's name is 1 to 32 of a-z, 0-9, - and _")]
    Name,
    /// The service already has a credential; remove it first.
    #[error("the service has a credential already")]
    Exists,
    /// The service has no credential.
    #[error("no service of this name has a credential")]
    Unknown,
    /// The bucket is not usable, or does not reply.
    #[error("the credentials of services are unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

/// The stored form of a credential, which cannot be used as one.
#[derive(Serialize, Deserialize)]
struct Record {
    digest: String,
    scope: String,
}

impl ServiceCredentials {
    /// Creates the bucket with `replicas` copies (1, 3 or 5); an existing one keeps its credentials.
    ///
    /// # Errors
    /// [`ServiceCredentialError::Unavailable`] if the server rejects the request or does not reply.
    pub async fn provision(jetstream: &jetstream::Context, replicas: usize) -> Result<(), ServiceCredentialError> {
        let config = kv::Config {
            bucket: BUCKET.to_owned(),
            description: "digests of the credentials of services".to_owned(),
            max_value_size: MAX_RECORD_BYTES,
            num_replicas: replicas,
            ..kv::Config::default()
        };
        jetstream.create_or_update_key_value(config).await.map(drop).map_err(unavailable)
    }

    /// Opens the bucket.
    ///
    /// # Errors
    /// [`KvError`] if it was not provisioned or cannot be reached.
    pub async fn open(connection: &Connection) -> Result<Self, KvError> {
        Ok(Self(KvBucket::open(connection, BUCKET).await?))
    }

    /// Creates a credential for the service `name` with the scopes `scope`, separated by one space each. It is
    /// returned once, and not stored.
    ///
    /// # Errors
    /// [`ServiceCredentialError::Name`], [`ServiceCredentialError::Exists`],
    /// [`ServiceCredentialError::Unavailable`].
    pub async fn add(&self, name: &str, scope: &str) -> Result<String, ServiceCredentialError> {
        let credential = Credential::random(name).map_err(unavailable)?.ok_or(ServiceCredentialError::Name)?;
        let (known, revision) = self.read(name).await?;
        if known.is_some() {
            return Err(ServiceCredentialError::Exists);
        }
        let record = Record { digest: credential.digest(), scope: scope.to_owned() };
        let value = serde_json::to_vec(&record).map_err(unavailable)?;
        let message = PublishMessage::build().payload(value.into());
        let current = self.0.current().await.map_err(unavailable)?;
        match revision::replace(&current.jetstream, &current.store, name, message, revision).await {
            Ok(true) => Ok(credential.to_string()),
            Ok(false) => Err(ServiceCredentialError::Exists),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Removes the credential of the service `name`, with effect from the next request.
    ///
    /// # Errors
    /// [`ServiceCredentialError::Name`], [`ServiceCredentialError::Unknown`],
    /// [`ServiceCredentialError::Unavailable`].
    pub async fn remove(&self, name: &str) -> Result<(), ServiceCredentialError> {
        if !credential::is_name(name) {
            return Err(ServiceCredentialError::Name);
        }
        if self.read(name).await?.0.is_none() {
            return Err(ServiceCredentialError::Unknown);
        }
        self.0.current().await.map_err(unavailable)?.store.purge(name).await.map_err(unavailable)
    }

    /// Returns the service of `credential`, or `None` if it is not a valid credential.
    ///
    /// # Errors
    /// [`ServiceCredentialError::Unavailable`] if the bucket does not reply.
    pub async fn verify(&self, credential: &str) -> Result<Option<ServiceClaims>, ServiceCredentialError> {
        let Some(credential) = Credential::parse(credential) else { return Ok(None) };
        let (record, _) = self.read(credential.name()).await?;
        let genuine = record.filter(|record| credential.has_digest(&record.digest));
        Ok(genuine.map(|record| ServiceClaims { name: credential.name().to_owned(), scope: record.scope }))
    }

    /// Returns the record of a service from the stream's leader, and the revision that a write replaces.
    async fn read(&self, name: &str) -> Result<(Option<Record>, u64), ServiceCredentialError> {
        let current = self.0.current().await.map_err(unavailable)?;
        let (value, revision) = revision::latest(&current, name).await.map_err(unavailable)?;
        let record = value.map(|value| from_json(&value)).transpose().map_err(unavailable)?;
        Ok((record, revision))
    }
}

impl Guard for ServiceCredentials {
    async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError> {
        let refused = || RpcError::unauthenticated("unauthenticated");
        let (scheme, credential) =
            request.header("authorization").and_then(|it| it.split_once(' ')).ok_or_else(refused)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused());
        }
        let claims = self
            .verify(credential)
            .await
            .map_err(|error| RpcError::unavailable("the credentials of services are unavailable").with_source(error))?;
        request.set_principal(std::sync::Arc::new(claims.ok_or_else(refused)?));
        Ok(())
    }

    fn proves(&self) -> Option<TypeId> {
        Some(TypeId::of::<ServiceClaims>())
    }
}

fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> ServiceCredentialError {
    ServiceCredentialError::Unavailable(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_name_and_has_scopes_and_no_roles() {
        let service = ServiceClaims { name: "billing".to_owned(), scope: "introspect revoke".to_owned() };
        assert_eq!((service.subject(), service.scope(), service.roles()), ("billing", "introspect revoke", &[][..]));
    }
}
