//! Ctrl-C and SIGTERM: the first stops cleanly, the second at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit;
use crate::ui::Ui;

/// A token that the first signal cancels. Must be called within the runtime.
pub fn token(ui: &Ui) -> CancellationToken {
    let cancel = CancellationToken::new();
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return cancel;
    };
    let (token, ui) = (cancel.clone(), ui.clone());
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
    cancel
}
