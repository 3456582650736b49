//! Announcements of session ends to all services: one at a time for each user.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nats_rpc::RpcError;
use tokio::sync::watch;
use users::UserId;

/// The running announcements. A second one for the same user hands its epoch to the first: the highest epoch includes
/// every lower one.
#[derive(Debug, Default)]
pub(super) struct Announcements(Mutex<HashMap<UserId, Running>>);

#[derive(Debug)]
struct Running {
    /// The highest epoch to announce.
    wanted: u64,
    /// The highest epoch announced.
    known: watch::Sender<u64>,
}

/// An end of sessions that a running announcement makes known.
#[derive(Debug)]
pub(super) struct Announced {
    epoch: u64,
    known: watch::Receiver<u64>,
}

impl Announced {
    /// Waits until the end has been announced.
    ///
    /// # Errors
    /// 503 if the announcement gave up.
    pub(super) async fn known(mut self) -> Result<(), RpcError> {
        let known = self.known.wait_for(|known| *known >= self.epoch).await;
        known.map(drop).map_err(|_| RpcError::unavailable("sessions have ended, and not everybody was told"))
    }
}

impl Announcements {
    /// Announces with `announce` the end of everything that `user` had before `epoch`, or hands it to the announcement
    /// that runs.
    ///
    /// A handover returns at once, so repeated calls still cause one announcement. The running one continues with an
    /// epoch that came in the meantime, even if it had to give up the one before.
    pub(super) async fn make<Fut>(&self, user: UserId, epoch: u64, announce: impl Fn(u64) -> Fut) -> Announced
    where
        Fut: Future<Output = Result<(), RpcError>>,
    {
        let known = match self.all().entry(user) {
            Entry::Occupied(mut running) => {
                let running = running.get_mut();
                running.wanted = running.wanted.max(epoch);
                return Announced { epoch, known: running.known.subscribe() };
            }
            Entry::Vacant(place) => {
                let (known, told) = watch::channel(0);
                place.insert(Running { wanted: epoch, known });
                told
            }
        };
        let mut place = Place { all: self, user, left: false };
        let mut wanted = epoch;
        while !place.left {
            match announce(wanted).await {
                Ok(()) => place.tell(wanted),
                Err(error) => {
                    tracing::error!(%error, %user, "sessions have ended, and their access tokens live until they expire");
                }
            }
            wanted = place.next_after(wanted);
        }
        Announced { epoch, known }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<UserId, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The registration of a user's announcement, until it is left.
struct Place<'a> {
    all: &'a Announcements,
    user: UserId,
    left: bool,
}

impl Place<'_> {
    fn tell(&self, known: u64) {
        if let Some(running) = self.all.all().get(&self.user) {
            running.known.send_replace(known);
        }
    }

    /// Returns the epoch to announce now; leaves the registration if that is `done`.
    fn next_after(&mut self, done: u64) -> u64 {
        let mut all = self.all.all();
        let wanted = all.get(&self.user).map_or(done, |running| running.wanted);
        if wanted == done {
            all.remove(&self.user);
            self.left = true;
        }
        wanted
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // The announcement was cancelled. If `left` is set, the entry may belong to another one.
        if !self.left {
            self.all.all().remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use nats_rpc::Code;
    use tokio::sync::Semaphore;

    use super::*;

    /// The recorded announcements, each of which runs when the test lets it.
    struct Told {
        epochs: RefCell<Vec<u64>>,
        lets: Semaphore,
        outcome: fn(u64) -> Result<(), RpcError>,
    }

    impl Told {
        fn new(outcome: fn(u64) -> Result<(), RpcError>) -> Self {
            Self { epochs: RefCell::default(), lets: Semaphore::new(0), outcome }
        }

        async fn tell(&self, epoch: u64) -> Result<(), RpcError> {
            self.epochs.borrow_mut().push(epoch);
            self.lets.acquire().await.unwrap().forget();
            (self.outcome)(epoch)
        }
    }

    /// Polls `work` until it waits for something.
    fn polled<F: Future>(work: Pin<&mut F>) -> Option<F::Output> {
        match work.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_user_has_one_announcement_at_a_time_and_the_highest_epoch_counts() {
        let (all, told, user) = (Announcements::default(), Told::new(|_| Ok(())), UserId::generate());
        let make = |user, epoch| all.make(user, epoch, |epoch| told.tell(epoch));
        let mut first = pin!(make(user, 1));
        assert!(polled(first.as_mut()).is_none());
        let folded = [4, 2, 3].map(|epoch| polled(pin!(make(user, epoch))).expect("it waits for nothing"));
        let mut other = pin!(make(UserId::generate(), 9));
        assert!(polled(other.as_mut()).is_none(), "another user's is another");
        assert_eq!(*told.epochs.borrow(), [1, 9]);
        told.lets.add_permits(3);
        let (first, other) = tokio::join!(first, other);
        assert_eq!(*told.epochs.borrow(), [1, 9, 4]);
        for announced in folded.into_iter().chain([first, other]) {
            assert!(announced.known().await.is_ok());
        }
        assert!(all.all().is_empty());
    }

    #[tokio::test]
    async fn who_left_it_to_one_that_was_cut_short_is_told_and_the_next_one_begins_anew() {
        let (all, told, user) = (Announcements::default(), Told::new(|_| Ok(())), UserId::generate());
        let make = |epoch| all.make(user, epoch, |epoch| told.tell(epoch));
        let mut cut_short = Box::pin(make(1));
        assert!(polled(cut_short.as_mut()).is_none());
        let folded = polled(pin!(make(2))).unwrap();
        drop(cut_short);
        assert_eq!(folded.known().await.unwrap_err().code(), Code::Unavailable);
        told.lets.add_permits(1);
        assert!(make(2).await.known().await.is_ok());
    }

    #[tokio::test]
    async fn an_epoch_that_was_given_up_fails_unless_a_higher_one_came_meanwhile() {
        let only_two = |epoch| if epoch == 2 { Ok(()) } else { Err(RpcError::unavailable("away")) };
        let (all, told, user) = (Announcements::default(), Told::new(only_two), UserId::generate());
        let make = |epoch| all.make(user, epoch, |epoch| told.tell(epoch));
        let mut first = pin!(make(1));
        assert!(polled(first.as_mut()).is_none());
        let folded = polled(pin!(make(2))).unwrap();
        told.lets.add_permits(3);
        assert!(first.await.known().await.is_ok(), "what is known of a higher epoch is of a lower one");
        assert!(folded.known().await.is_ok());
        assert_eq!(make(3).await.known().await.unwrap_err().code(), Code::Unavailable);
    }
}
