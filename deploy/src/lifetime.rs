//! When a long-running command ends: Ctrl-C, SIGTERM, or its parent going away.

use std::io::Read;

use tokio::sync::oneshot;

/// Resolves when the process is asked to stop. With `with_stdin`, also when stdin ends: whoever started us
/// holds the other end of that pipe, so we stop even if it was killed and could tell nobody.
pub async fn asked_to_stop(with_stdin: bool) -> &'static str {
    let stdin = async {
        if !with_stdin {
            return std::future::pending().await;
        }
        stdin_ended().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "interrupted",
        () = terminated() => "terminated",
        () = stdin => "stdin closed",
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be listened for; Ctrl-C still stops this process");
            std::future::pending().await
        }
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}

/// A plain thread, since a blocked read cannot be cancelled and must not hold the runtime open.
async fn stdin_ended() {
    let (ended, wait) = oneshot::channel();
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut sink) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // Nobody listens any more: the process is stopping for another reason.
        let _ = ended.send(());
    });
    // An error means the thread is gone, which ends stdin just as well.
    let _ = wait.await;
}
