//! Ctrl-C and SIGTERM: the first asks the command to stop in good order, a second Ctrl-C stops it at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::error::Exit;

/// The pipeline ends its upload sessions within two seconds; what has not ended then is left behind.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs `work` until it is done, or until a signal and some patience have passed. `cancel` is what `work` listens to.
pub async fn guard<T>(cancel: CancellationToken, work: impl Future<Output = T>) -> Result<T, Exit> {
    let received = Arc::new(AtomicU8::new(0));
    let (Ok(interrupt), Ok(terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals keep their meaning: they end the process.
        return Ok(work.await);
    };
    let listener = tokio::spawn(listen(interrupt, terminate, cancel.clone(), Arc::clone(&received)));
    let late = async {
        cancel.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    let outcome = tokio::select! {
        outcome = work => Some(outcome),
        () = late => None,
    };
    listener.abort();
    match (Exit::of_signal(received.load(Ordering::SeqCst)), outcome) {
        (None, Some(outcome)) => Ok(outcome),
        // Whatever came of it, the person asked for it to stop.
        (Some(exit), _) => Err(exit),
        (None, None) => Err(Exit::Interrupted),
    }
}

async fn listen(
    mut interrupt: Signal,
    mut terminate: Signal,
    cancel: CancellationToken,
    received: Arc<AtomicU8>,
) {
    loop {
        let number = tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
        };
        if received.swap(number, Ordering::SeqCst) != 0 {
            #[expect(clippy::exit, reason = "the second signal says: now")]
            std::process::exit(Exit::of_signal(number).map_or(1, Exit::code).into());
        }
        cancel.cancel();
    }
}
