//! Turns at a bastion. An sshd drops connections at random when more than ten are logging in at once
//! (MaxStartups 10:30:100), so that only some of the hosts' ways are opened at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Fewer than ten, for others log in there too.
const AT_ONCE: usize = 8;
const NAP: Duration = Duration::from_millis(100);

/// Counts who is opening a way, by the bastion's name.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<(Mutex<BTreeMap<String, usize>>, Condvar)>);

/// Given back when it is dropped.
pub(super) struct Turn {
    turns: Turns,
    name: String,
}

impl Turns {
    /// Waits for one; `None` where the run was cancelled or the deadline has passed.
    pub fn take(&self, name: &str, deadline: Instant, cancel: &CancellationToken) -> Option<Turn> {
        let (counts, given_back) = &*self.0;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if cancel.is_cancelled() {
                return None;
            }
            let count = counts.entry(name.to_owned()).or_default();
            if *count < AT_ONCE {
                *count += 1;
                return Some(Turn { turns: self.clone(), name: name.to_owned() });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            counts = given_back.wait_timeout(counts, left.min(NAP)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (counts, given_back) = &*self.turns.0;
        if let Some(count) = counts.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&self.name) {
            *count -= 1;
        }
        given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn only_some_go_at_once_and_all_get_their_turn() {
        let (turns, cancel) = (Turns::default(), CancellationToken::new());
        let (going, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let deadline = Instant::now() + Duration::from_secs(20);
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    let turn = turns.take("gate", deadline, &cancel).unwrap();
                    most.fetch_max(going.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(2));
                    going.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                    done.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(done.into_inner(), 40);
        assert!(most.into_inner() <= AT_ONCE);
    }

    #[test]
    fn waiting_ends_and_bastions_do_not_wait_for_each_other() {
        let (turns, cancel) = (Turns::default(), CancellationToken::new());
        let soon = || Instant::now() + Duration::from_millis(20);
        let held: Vec<_> = (0..AT_ONCE).map(|_| turns.take("gate", soon(), &cancel).unwrap()).collect();
        assert!(turns.take("gate", soon(), &cancel).is_none());
        assert!(turns.take("other", soon(), &cancel).is_some());
        drop(held);
        assert!(turns.take("gate", soon(), &cancel).is_some());
        cancel.cancel();
        assert!(turns.take("other", soon(), &cancel).is_none());
    }
}
