//! The threads that run handlers: a runtime of their own, so that a handler that panics or blocks
//! its thread delays neither acknowledgements nor heartbeats.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::{Handle, Runtime},
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::run::run;
use crate::{
    api::{peer::Frestq, registry::Registry},
    commit::ClaimedTask,
    model::error::{Error, Result},
};

/// The worker: the threads, and the number of running handlers.
pub(crate) struct Worker {
    runtime: Option<Runtime>,
    threads: Handle,
    running: Arc<watch::Sender<usize>>,
    /// Receives the claimed tasks; it ends after the last one.
    starting: JoinHandle<()>,
}

impl Worker {
    /// Starts to run the claimed tasks.
    pub(crate) fn start(
        peer: Frestq,
        registry: Registry,
        threads: usize,
        claimed: mpsc::UnboundedReceiver<ClaimedTask>,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("frestq-handler")
            .enable_all()
            .build()
            .map_err(|source| Error::Io {
                what: "can't start the threads that run handlers".into(),
                source,
            })?;
        let running = Arc::new(watch::Sender::new(0));
        let count = running.clone();
        let registry = Arc::new(registry);
        let starting = spawn_each(&runtime, claimed, move |task| {
            count.send_modify(|running| *running += 1);
            let (peer, registry, count) = (peer.clone(), registry.clone(), count.clone());
            async move {
                run(peer, registry, task).await;
                count.send_modify(|running| *running -= 1);
            }
        });
        Ok(Self {
            threads: runtime.handle().clone(),
            runtime: Some(runtime),
            running,
            starting,
        })
    }

    /// Waits until the committer claims no more and no handler runs. Returns `false` if `longest`
    /// has passed before that.
    pub(crate) async fn drain(&mut self, longest: Duration) -> bool {
        let mut running = self.running.subscribe();
        let starting = &mut self.starting;
        let drained = async {
            // Claimed tasks that have not started count too. An error is not possible here.
            let _ = starting.await;
            let _ = running.wait_for(|running| *running == 0).await;
        };
        tokio::time::timeout(longest, drained).await.is_ok()
    }

    /// The handle of the threads, for other code of the application.
    pub(crate) fn threads(&self) -> &Handle {
        &self.threads
    }

    /// The number of running handlers.
    pub(crate) fn running(&self) -> usize {
        *self.running.borrow()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A handler that blocks its thread must not delay the end of the process.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Spawns each claimed task from within the runtime, so that a claim wakes only the thread that
/// runs it.
fn spawn_each<T, F>(
    runtime: &Runtime,
    mut claimed: mpsc::UnboundedReceiver<T>,
    run: impl Fn(T) -> F + Send + 'static,
) -> JoinHandle<()>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    // It never yields to the cooperative budget: after a yield the rest would wait for this
    // thread, which a handler may block.
    runtime.spawn(tokio::task::unconstrained(async move {
        while let Some(task) = claimed.recv().await {
            tokio::spawn(run(task));
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            RwLock,
            atomic::{AtomicUsize, Ordering},
        },
        time::Instant,
    };

    use super::*;

    #[test]
    fn handlers_that_block_their_threads_do_not_delay_others() {
        const CLAIMED: usize = 300;
        const THREADS: usize = 8;
        // All threads but one are blocked by some of the first 128 tasks. After 128 operations
        // the budget of a runtime makes a task yield.
        let blocks = |number| number % 16 == 0 && number < 16 * THREADS;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .build()
            .unwrap();
        let (sender, claimed) = mpsc::unbounded_channel();
        (1..=CLAIMED).for_each(|number| sender.send(number).unwrap());
        let gate = Arc::new(RwLock::new(()));
        let shut = gate.clone();
        let shut = shut.write();
        let ended = Arc::new(AtomicUsize::new(0));
        let count = ended.clone();
        spawn_each(&runtime, claimed, move |number| {
            let (gate, count) = (gate.clone(), count.clone());
            async move {
                if blocks(number) {
                    drop(gate.read());
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        let free = CLAIMED - (THREADS - 1);
        while ended.load(Ordering::SeqCst) < free && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let before = ended.load(Ordering::SeqCst);
        drop(shut);
        assert_eq!(before, free);
    }
}
