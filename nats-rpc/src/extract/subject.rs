use super::FromRequest;
use crate::error::RpcError;
use crate::message::Request;
use crate::subject::Subject;

impl FromRequest for Subject {
    async fn from_request(request: &mut Request) -> Result<Self, RpcError> {
        Ok(request.owned_subject())
    }
}
