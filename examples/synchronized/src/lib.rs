//! What both peers share: the actions, and the handler that reserves a port and says goodbye from
//! it.

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    sync::{LazyLock, Mutex},
};

use frestq::prelude::*;

/// Starts the whole tree.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "hello_world", action = "testing.hello_world", output = String)]
pub struct Hello {
    /// Who is greeted.
    pub username: String,
}

/// Says goodbye once, from a reserved port.
#[derive(Serialize, Deserialize, Action)]
#[action(queue = "goodbye_world", action = "testing.goodbye_cruel_world", output = String)]
pub struct Goodbye {
    /// Who is leaving.
    pub username: String,
    /// The reservations of all subtasks of the group, by the id of the subtask.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub reservation_data: serde_json::Map<String, serde_json::Value>,
}

/// The reservation of one subtask.
#[derive(Serialize, Deserialize)]
pub struct Port {
    /// The number of the port.
    pub port: u16,
}

/// The free ports of this peer. Each is reserved by at most one task.
static PORTS: LazyLock<Mutex<BTreeSet<u16>>> = LazyLock::new(|| {
    let text = std::env::var("PORTS").unwrap_or_else(|_| "6000-6019".into());
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let ports: RangeInclusive<u16> = match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) => first..=last,
        _ => panic!("PORTS is a range such as 6000-6002, not {text}"),
    };
    Mutex::new(ports.collect())
});

fn ports() -> std::sync::MutexGuard<'static, BTreeSet<u16>> {
    PORTS
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Sets the ports of this peer, unless `PORTS` is set.
pub fn own_ports(range: RangeInclusive<u16>) {
    if std::env::var_os("PORTS").is_none() {
        *ports() = range.collect();
    }
}

#[derive(Default)]
struct GoodbyeCruelWorld;

#[frestq::task]
impl Handler for GoodbyeCruelWorld {
    type Input = Goodbye;
    type Output = String;
    type Reservation = Port;

    async fn reserve(&self, _: &Task) -> anyhow::Result<Port> {
        let port = ports().pop_first();
        port.map(|port| Port { port })
            .ok_or_else(|| anyhow::anyhow!("all ports are taken"))
    }

    async fn cancel_reservation(&self, _: &Task, reserved: Port) -> anyhow::Result<()> {
        ports().insert(reserved.port);
        Ok(())
    }

    async fn execute(&self, task: &Task, input: Goodbye) -> anyhow::Result<String> {
        let Port { port } = task.reservation()?;
        let here = task.here().as_str();
        let here = here
            .split("//")
            .nth(1)
            .and_then(|rest| rest.split('/').next());
        let goodbye = format!(
            "goodbye {} from port {port} in server {}!",
            input.username,
            here.unwrap_or_default()
        );
        ports().insert(port);
        Ok(goodbye)
    }
}
