//! What stops a command before its end: Ctrl-C, SIGTERM and `--timeout`. The first stops it cleanly, a second signal (or
//! half a minute more) at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit;
use crate::model::spec::Span;
use crate::ui::Ui;

/// How long a command that `--timeout` stopped may take to come to its end.
const GRACE: Duration = Duration::from_secs(30);

/// The same for one that takes away what it made for itself alone: until that is gone it costs money.
const CLEANING: Duration = Duration::from_secs(15 * 60);

/// How a command is stopped, and whether it was; all clones are one.
#[derive(Debug, Clone)]
pub struct Stop {
    cancel: CancellationToken,
    timed_out: Arc<AtomicBool>,
    grace: Duration,
    cleans_up: Arc<AtomicBool>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { cancel: CancellationToken::new(), timed_out: Arc::default(), grace: GRACE, cleans_up: Arc::default() }
    }
}

/// The command's time was over. It stands around the error with which the command ended, if it did.
#[derive(Debug, thiserror::Error)]
#[error("the time of --timeout {after} was over before the command came to its end")]
pub struct TimedOut {
    after: Span,
    /// The command changes hosts, and goes on where it stopped when it is run again.
    again: bool,
}

impl TimedOut {
    pub const fn cure(&self) -> &'static str {
        if self.again {
            "run it again: what is done stays done, and no file is left half-written"
        } else {
            "give it longer; what it waited for stands above"
        }
    }
}

/// The command was interrupted while it had not begun yet.
#[derive(Debug, thiserror::Error)]
#[error("interrupted while waiting for the cluster's lock")]
pub struct Interrupted;

impl Stop {
    /// A token that the first signal or the end of `timeout` cancels. Must be called within the runtime.
    pub fn token(&self, ui: &Ui, timeout: Option<Span>) -> CancellationToken {
        self.listen(ui);
        if let Some(after) = timeout {
            let (stop, ui) = (self.clone(), ui.clone());
            tokio::spawn(async move { stop.time(&ui, after).await });
        }
        self.cancel.clone()
    }

    /// The command takes away what it made, also when it is stopped: it is given the time for that.
    pub fn cleans_up(&self) {
        self.cleans_up.store(true, Ordering::Relaxed);
    }

    /// How long the command may take beyond its grace.
    fn more(&self) -> Duration {
        if self.cleans_up.load(Ordering::Relaxed) { CLEANING } else { Duration::ZERO }
    }

    fn listen(&self, ui: &Ui) {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        let (token, ui) = (self.cancel.clone(), ui.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if token.is_cancelled() {
                    std::process::exit(exit::INTERRUPTED.into());
                }
                ui.warn("stopping: what is under way on each host ends first (again: stop at once)");
                token.cancel();
            }
        });
    }

    async fn time(&self, ui: &Ui, after: Span) {
        tokio::time::sleep(after.as_duration()).await;
        if self.cancel.is_cancelled() {
            return;
        }
        self.timed_out.store(true, Ordering::Relaxed);
        ui.warn(&format!("--timeout {after} is over: stopping; what is under way on each host ends first"));
        self.cancel.cancel();
        // Whoever waits for something that cannot be cancelled, such as an answer on a terminal, hears of nothing.
        tokio::time::sleep(self.grace + Duration::from_secs(5)).await;
        tokio::time::sleep(self.more()).await;
        std::process::exit(exit::TIMED_OUT.into());
    }

    /// Runs `command`, but no longer than half a minute beyond its time.
    ///
    /// # Errors
    /// Those of `command`, and [`TimedOut`] when it had not ended well in time.
    pub async fn within(
        &self,
        timeout: Option<Span>,
        again: bool,
        command: impl Future<Output = Result<u8>>,
    ) -> Result<u8> {
        let Some(after) = timeout else { return Ok(self.interrupted(command.await?)) };
        let late = || TimedOut { after, again };
        let mut command = std::pin::pin!(command);
        let mut ended = tokio::time::timeout(after.as_duration() + self.grace, &mut command).await;
        if ended.is_err() && !self.more().is_zero() {
            ended = tokio::time::timeout(self.more(), &mut command).await;
        }
        match ended {
            // Whatever came of it, it came too late; what was done in the end is done.
            Ok(ended) if self.timed_out.load(Ordering::Relaxed) => match ended {
                Ok(exit::OK) => Ok(exit::OK),
                Ok(_) => Err(late().into()),
                Err(error) => Err(error.context(late())),
            },
            Ok(ended) => Ok(self.interrupted(ended?)),
            Err(_) => Err(late().into()),
        }
    }

    /// Not every command that was cut short says so by itself.
    fn interrupted(&self, code: u8) -> u8 {
        let unfinished = matches!(code, exit::FAILED | exit::HOSTS_FAILED | exit::CHANGES);
        if unfinished && self.cancel.is_cancelled() { exit::INTERRUPTED } else { code }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use anyhow::bail;

    use super::super::hints;
    use super::*;
    use crate::ui::{ColorWhen, Format};

    fn stop(after: Option<Span>) -> (Stop, CancellationToken) {
        let stop = Stop::default();
        let token = stop.token(&Ui::new(Format::Text, ColorWhen::Never), after);
        (stop, token)
    }

    #[tokio::test]
    async fn a_command_whose_time_is_over_is_cancelled_and_says_so() {
        let after = Some(Span::from_millis(20));
        for (ended, code) in [(exit::HOSTS_FAILED, 124), (exit::INTERRUPTED, 124), (exit::OK, 0)] {
            let (stop, token) = stop(after);
            let command = async {
                token.cancelled().await;
                Ok(ended)
            };
            let got = stop.within(after, true, command).await.unwrap_or_else(|error| hints::code(&error));
            assert_eq!(got, code, "{ended}");
        }
        let (stop, token) = stop(after);
        let command = async {
            token.cancelled().await;
            bail!("consul did not arrive")
        };
        let error = stop.within(after, true, command).await.unwrap_err();
        let said: Vec<String> = error.chain().map(ToString::to_string).collect();
        assert_eq!(
            said,
            ["the time of --timeout 20ms was over before the command came to its end", "consul did not arrive"]
        );
        assert_eq!(hints::code(&error), exit::TIMED_OUT);
        assert!(hints::hint(&error).unwrap().starts_with("run it again"));
    }

    #[tokio::test]
    async fn a_command_that_hears_nothing_is_left() {
        let after = Some(Span::from_millis(20));
        let (mut stop, _token) = stop(after);
        stop.grace = Duration::from_millis(20);
        let error = stop.within(after, false, pending()).await.unwrap_err();
        assert_eq!(hints::code(&error), exit::TIMED_OUT);
        assert!(hints::hint(&error).unwrap().starts_with("give it longer"));
    }

    #[tokio::test]
    async fn a_command_that_cleans_up_is_waited_for() {
        let after = Some(Span::from_millis(20));
        let (mut stop, token) = stop(after);
        stop.grace = Duration::from_millis(20);
        stop.cleans_up();
        let cleaned = AtomicBool::new(false);
        let command = async {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            cleaned.store(true, Ordering::Relaxed);
            Ok(exit::INTERRUPTED)
        };
        let error = stop.within(after, false, command).await.unwrap_err();
        assert_eq!((hints::code(&error), cleaned.into_inner()), (exit::TIMED_OUT, true));
    }

    #[tokio::test]
    async fn a_command_in_time_keeps_its_code() {
        for code in [exit::OK, exit::FAILED, exit::CHANGES, exit::HOSTS_FAILED] {
            let (stop, _token) = stop(Some(Span::from_secs(60)));
            assert_eq!(stop.within(Some(Span::from_secs(60)), true, async { Ok(code) }).await.unwrap(), code);
        }
    }

    #[tokio::test]
    async fn what_an_interruption_cut_short_ends_as_interrupted() {
        for (code, wanted) in [(exit::OK, exit::OK), (exit::HOSTS_FAILED, 130), (exit::FAILED, 130), (exit::USAGE, 64)]
        {
            let (stop, token) = stop(None);
            token.cancel();
            assert_eq!(stop.within(None, true, async { Ok(code) }).await.unwrap(), wanted);
        }
    }
}
