//! Requests a beacon out of turn from auth.

use bytes::Bytes;
use nats_rpc::Connection;

use super::report::ASK;

/// Requests the auth instances to announce the progress of the buckets to watchers at once.
///
/// It is for a change by another program than an auth instance, such as a command. Where consumers watch the buckets,
/// it does nothing. If it fails, the next beacon announces the change.
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
