use super::FromRequest;
use crate::error::RpcError;
use crate::message::{Headers, Request};

impl FromRequest for Headers {
    async fn from_request(request: &mut Request) -> Result<Self, RpcError> {
        Ok(request.headers.clone().map(Self::received).unwrap_or_default())
    }
}
