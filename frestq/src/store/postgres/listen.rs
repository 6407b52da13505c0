//! Wake-ups between the processes of one peer: `NOTIFY` within the transaction, `LISTEN` beside
//! it.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::{sync::mpsc, time::timeout};

use super::{
    connect::PATIENCE,
    database::Postgres,
    notify::{CHANNEL, members, unpack},
};
use crate::model::error::Result;
use crate::store::due::Wake;

/// How often an idle connection is checked: a broken connection is as silent as an idle one.
const TRIAL: Duration = Duration::from_secs(30);

impl Postgres {
    pub(crate) async fn wakes(&self) -> Result<mpsc::Receiver<Wake>> {
        let listener = listen(&self.options).await?;
        let (sender, receiver) = mpsc::channel(1024);
        tokio::spawn(forward(
            listener,
            self.options.clone(),
            self.origin.clone(),
            sender,
        ));
        Ok(receiver)
    }

    /// Tells the other processes that peers were registered, or taken out.
    pub(crate) async fn tell_of_members(&self) -> Result<()> {
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(members(&self.origin))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

async fn listen(options: &PgConnectOptions) -> sqlx::Result<PgListener> {
    // The listener wants a pool, to take its one connection from.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(PATIENCE)
        .connect_with(options.clone())
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    // We connect again ourselves, whatever the reason was.
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Forwards notifications, reconnecting as often as needed, until the receiver is gone.
async fn forward(
    mut listener: PgListener,
    options: PgConnectOptions,
    origin: String,
    wakes: mpsc::Sender<Wake>,
) {
    loop {
        tokio::select! {
            () = wakes.closed() => return,
            () = hear(&mut listener, &origin, &wakes) => {}
        }
        drop(listener);
        tracing::warn!("lost the connection that listens for other processes; connecting again");
        listener = tokio::select! {
            () = wakes.closed() => return,
            fresh = listen_again(&options) => fresh,
        };
        if wakes.send(Wake::Everything).await.is_err() {
            return;
        }
    }
}

/// Returns when the connection is lost.
async fn hear(listener: &mut PgListener, origin: &str, wakes: &mpsc::Sender<Wake>) {
    loop {
        let payload = match timeout(TRIAL, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => notification.payload().to_owned(),
            Ok(Ok(None) | Err(_)) => return,
            Err(_) => {
                let trial = sqlx::query("SELECT 1").execute(&mut *listener);
                match timeout(PATIENCE, trial).await {
                    Ok(Ok(_)) => continue,
                    Ok(Err(_)) | Err(_) => return,
                }
            }
        };
        for wake in unpack(origin, &payload) {
            if wakes.send(wake).await.is_err() {
                return;
            }
        }
    }
}

async fn listen_again(options: &PgConnectOptions) -> PgListener {
    let mut wait = Duration::from_millis(200);
    loop {
        match listen(options).await {
            Ok(listener) => return listener,
            Err(error) => tracing::warn!(%error, "can't listen for other processes"),
        }
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        wait = (wait * 2).min(Duration::from_secs(10));
    }
}
