//! Two peers in one process, beside an axum application that was there before them and has its own
//! routes, its own listener and its own Ctrl-C.
//!
//! `cargo run -p embedded` has the peer *office* hand a document to the peer *archive*, over HTTP,
//! prints what comes back, and stops everything in order. With `--serve` it goes on until Ctrl-C.

use std::{net::SocketAddr, path, time::Duration};

use axum::Router;
use frestq::{App, RunningPeer, prelude::*};
use tokio::{net::TcpListener, signal::ctrl_c, sync::oneshot, time::interval};

/// What the archive takes: the contract of both peers.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "archive", action = "keep", output = String)]
struct Keep {
    title: String,
}

/// The archive's own settings. Run by `App::run`, it would read them from `[app]` too.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Shelf {
    shelf: String,
}

/// Served by the archive alone, since the office has only the queue `office`.
#[frestq::task]
async fn keep(Keep { title }: Keep, State(settings): State<Shelf>) -> anyhow::Result<String> {
    println!(" archive | {title:?} has come");
    Ok(format!("{title:?} is on shelf {}", settings.shelf))
}

/// Served by the office alone.
#[frestq::task(queue = "office", action = "ring")]
async fn ring() -> anyhow::Result<()> {
    println!("  office | ring");
    Ok(())
}

/// The office's own loop, which runs for as long as the office does.
async fn open_hours(office: Frestq) -> anyhow::Result<()> {
    let mut minutes = interval(Duration::from_secs(60));
    loop {
        minutes.tick().await;
        println!("  office | open at {}", office.url());
    }
}

/// Starts a peer whose router will be under `/NAME` of the application at this address.
async fn start(
    app: App,
    name: &str,
    address: SocketAddr,
    folder: &path::Path,
) -> frestq::Result<RunningPeer> {
    let database = folder.join(format!("{name}.sqlite"));
    let app = app.configure(|config| {
        config.root_url = Some(format!("http://{address}/{name}/api/queues"));
        config.database = Some(format!("sqlite:{}", database.display()));
    });
    app.create_database().await?;
    app.start().await
}

/// `POST /documents/{title}`: a route of the application's own that uses a peer.
async fn file(
    State(Peers { office, archive }): State<Peers>,
    Path(title): Path<String>,
) -> frestq::Result<String> {
    let task = office.send(Keep { title }.to(archive.url())).await?;
    task.output().await
}

/// What the application's own routes know of the peers.
#[derive(Clone)]
struct Peers {
    office: Frestq,
    archive: Frestq,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("frestq-embedded-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = run(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    outcome
}

async fn run(folder: &path::Path) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;

    let office = App::new().only("office").background("open", open_hours);
    let office = start(office, "office", address, folder).await?;
    let archive = App::new().only("archive").settings_value(Shelf {
        shelf: "B7".to_owned(),
    });
    let archive = start(archive, "archive", address, folder).await?;

    let peers = Peers {
        office: office.handle().clone(),
        archive: archive.handle().clone(),
    };
    let router = Router::new()
        .route("/", get(|| async { "the application" }))
        .route("/documents/{title}", post(file))
        .with_state(peers.clone())
        .nest("/office", office.router())
        .nest("/archive", archive.router())
        // The peers must know where a message comes from.
        .into_make_service_with_connect_info::<SocketAddr>();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, router).with_graceful_shutdown(async {
        // Nothing is sent: it ends once the other half is gone.
        let _ = stopped.await;
    });
    let server = tokio::spawn(server.into_future());
    println!("     app | serving http://{address}/, with both peers in it");

    let outcome = tokio::select! {
        outcome = round_trip(&peers) => outcome,
        pressed = ctrl_c() => pressed.map_err(Into::into),
    };
    // The peers first: what they still have to tell each other goes through the server.
    tokio::join!(office.stop(), archive.stop());
    drop(stop);
    server.await??;
    println!("     app | stopped, after both peers");
    outcome
}

/// Has the office send a document to the archive; with `--serve` it does not end.
async fn round_trip(peers: &Peers) -> anyhow::Result<()> {
    let ring = SimpleTask::new(peers.office.url(), "office", "ring");
    peers.office.send(ring).await?.output().await?;
    let keep = Keep {
        title: "minutes of the meeting".to_owned(),
    };
    let task = peers.office.send(keep.to(peers.archive.url())).await?;
    println!("  office | the archive says: {}", task.output().await?);
    if std::env::args().any(|argument| argument == "--serve") {
        println!("     app | going on until Ctrl-C");
        std::future::pending::<()>().await;
    }
    Ok(())
}
