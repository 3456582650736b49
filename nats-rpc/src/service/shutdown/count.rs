//! How a service stops where nats-server does not end a subscription at once: by counting.
//!
//! As long as their connection has not broken, client and server count the same messages. A count that lies a
//! little ahead then ends both behind the same message, and nothing is lost. Where too few messages come to
//! reach it, or the connection has broken, a drain is left: it loses what is on its way.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{BARRIER_LIMIT, Loops, Step, order};
use crate::service::dispatch::Endpoint;

/// How long the rate of messages is measured.
const WINDOW: Duration = Duration::from_millis(100);
/// What may hold an order up, on its way through this process and the server.
const SLACK: Duration = Duration::from_millis(50);
/// How many messages lie ahead at least.
const LEAST_MARGIN: u64 = 2;
/// How long the messages that lie ahead may take to come.
const COUNT_LIMIT: Duration = Duration::from_secs(1);

impl Loops<'_> {
    /// Ends the intake of every loop, by count where that can be.
    pub(super) async fn end_by_count(&self) {
        tracing::warn!("this nats-server does not end a subscription at once: its messages are counted instead");
        if self.unbroken && self.count_to_the_end().await {
            return;
        }
        tracing::warn!("requests may be lost: too few came to end the subscriptions behind one of them");
        self.order_all(Step::Drain).await;
        // Behind it, all that the server sent has come, and the subscriptions have ended.
        if let Err(error) = self.connection.round_trip(BARRIER_LIMIT).await {
            tracing::warn!(%error, "nats-server did not confirm that it sends no more");
        }
    }

    /// Whether every subscription came to its count in time.
    async fn count_to_the_end(&self) -> bool {
        let Ok(round_trip) = self.connection.round_trip(BARRIER_LIMIT).await else { return false };
        let before: Vec<_> = self.endpoints.iter().map(finished).collect();
        tokio::time::sleep(WINDOW).await;
        let each = self.endpoints.iter().zip(before).zip(self.orders);
        let ended: Vec<_> = each
            .map(|((endpoint, before), orders)| {
                let in_window = finished(endpoint).wrapping_sub(before);
                order(orders, Step::EndAfter(margin(in_window, round_trip)))
            })
            .collect();
        tokio::time::timeout(COUNT_LIMIT, join_all(ended)).await.is_ok()
    }
}

fn finished(endpoint: &Arc<Endpoint>) -> u64 {
    endpoint.counters.finished_so_far()
}

/// How many messages may come before the server has read the count, at the rate of the window.
fn margin(in_window: u64, round_trip: Duration) -> u64 {
    let windows = (round_trip + SLACK).as_secs_f64() / WINDOW.as_secs_f64();
    (in_window as f64 * windows).ceil() as u64 + LEAST_MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_grows_with_the_rate_and_the_round_trip() {
        assert_eq!(margin(0, Duration::from_secs(1)), LEAST_MARGIN);
        assert_eq!(margin(200, Duration::ZERO), 100 + LEAST_MARGIN);
        assert_eq!(margin(200, Duration::from_millis(50)), 200 + LEAST_MARGIN);
    }
}
