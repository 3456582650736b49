//! Asking auth for a beacon out of turn.

use bytes::Bytes;
use nats_rpc::Connection;

use super::report::ASK;

/// Asks the instances of auth to tell watchers at once how far the buckets have come.
///
/// It is for a change that no instance of auth made, as by a command. Where buckets are watched by consumers, it does
/// nothing. If it fails, the next beacon tells.
pub(crate) async fn ask_for_beacon(connection: &Connection) {
    if connection.auth_js_api_prefix().is_none() {
        return;
    }
    let nats = connection.nats();
    let asked = async {
        nats.publish(ASK, Bytes::new()).await?;
        nats.flush().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    if let Err(error) = asked.await {
        tracing::debug!(%error, "auth was not asked for a beacon");
    }
}
