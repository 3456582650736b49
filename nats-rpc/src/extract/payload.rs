use serde::de::DeserializeOwned;

use super::{FromRequest, OptionalExtract};
use crate::decode::from_json;
use crate::error::RpcError;
use crate::message::Request;

/// The message's data, decoded from JSON.
///
/// It is decoded only after all guards have passed, directly from the received bytes. Absent data is not `null`:
/// `Option<Payload<T>>` gives `None` for it, and `Payload<Option<T>>` accepts `null`.
///
/// The service replies 400 if the data is absent, is not valid JSON, is nested deeper than 128 levels, or does not
/// decode as `T`. The message names the field, the expected type and the position, and repeats no value
/// ([`from_json`](crate::from_json)).
///
/// A struct decodes only from an object. serde would also accept an array of its fields in order. Such an array could
/// smuggle in by position a field that a guard removes by name. For `untagged` and internally tagged enums, serde
/// still accepts arrays for their variants.
///
/// ```
/// use nats_rpc::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Sum { a: i64, b: i64 }
///
/// #[message_pattern("math.sum")]
/// async fn sum(Payload(Sum { a, b }): Payload<Sum>) -> Result<i64, RpcError> {
///     a.checked_add(b).ok_or_else(|| RpcError::invalid_argument("the sum is out of range"))
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payload<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequest for Payload<T> {
    async fn from_request(request: &mut Request) -> Result<Self, RpcError> {
        let data =
            request.data().ok_or_else(|| RpcError::invalid_argument("the message has no data: send a JSON value"))?;
        from_json(data)
            .map(Self)
            .map_err(|error| RpcError::invalid_argument(format!("the data cannot be used: {error}")))
    }
}

impl<T: DeserializeOwned + Send> OptionalExtract for Payload<T> {
    async fn extract_optional((): &(), request: &mut Request) -> Result<Option<Self>, RpcError> {
        match request.data() {
            None => Ok(None),
            Some(_) => Self::from_request(request).await.map(Some),
        }
    }
}

/// An argument with a schema is part of its handler's contract; this one has the schema of its data.
#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Payload<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}
