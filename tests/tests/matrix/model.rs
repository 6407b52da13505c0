//! Who may do what, written down a second time, by the table of the design and nothing of the code.

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NewTask,
    /// For a `#[frestq::message]` handler; it names the task too.
    Raw,
    /// An action that is this peer's own code's.
    Local,
    /// An action that nobody has a grant for.
    Ungranted,
    /// An update to `finished`.
    Finish,
    /// An update to `executing`.
    Progress,
    /// An update of a revision that is not new.
    Stale,
    Confirm,
    Refuse,
    Synchronize,
    Execute,
    Cancel,
    /// `frestq.cancel_reservation`
    Release,
    /// `frestq.finish_external_task`
    FinishExternal,
    /// An internal action that does not exist.
    NoSuch,
}

impl Kind {
    pub(super) const ALL: [Self; 15] = [
        Kind::NewTask,
        Kind::Raw,
        Kind::Local,
        Kind::Ungranted,
        Kind::Finish,
        Kind::Progress,
        Kind::Stale,
        Kind::Confirm,
        Kind::Refuse,
        Kind::Synchronize,
        Kind::Execute,
        Kind::Cancel,
        Kind::Release,
        Kind::FinishExternal,
        Kind::NoSuch,
    ];
}

/// Which end of a task its owner, A, is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// There is no such task.
    Nowhere,
    /// A has sent it, and it runs here.
    Sender,
    /// It was sent to A.
    Receiver,
    /// No other peer has to do with it.
    Neither,
}

macro_rules! states {
    ($($name:ident $side:ident $ended:literal),+ $(,)?) => {
        /// A task, as far as it has come.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum State { $($name),+ }

        impl State {
            pub(super) const ALL: &'static [Self] = &[$(State::$name),+];

            pub(super) fn side(self) -> Side {
                match self { $(State::$name => Side::$side),+ }
            }

            pub(super) fn has_ended(self) -> bool {
                match self { $(State::$name => $ended),+ }
            }
        }
    };
}

states! {
    Unknown Nowhere false,
    // Received from A.
    Waiting Sender false,
    Running Sender false,
    Syncing Sender false,
    Reserved Sender false,
    Released Sender false,
    Confirmed Sender false,
    Finished Sender true,
    Failed Sender true,
    Cancelled Sender true,
    Expired Sender true,
    // Sent to A.
    Delayed Receiver false,
    Sent Receiver false,
    Executing Receiver false,
    Asked Receiver false,
    AskedAndConfirmed Receiver false,
    SentFinished Receiver true,
    SentFailed Receiver true,
    SentCancelled Receiver true,
    SentExpired Receiver true,
    // Of this peer alone.
    External Neither false,
    OwnRunning Neither false,
    OwnFinished Neither true,
}

/// Who sends, and what it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A, with the certificate that is about to be replaced.
    OldPin,
    /// A, with its new certificate.
    NewPin,
    /// A, with the old certificate, after it was taken out.
    RemovedPin,
    /// C, which is registered too.
    Other,
    /// C, which says that it is A.
    OtherAsOwner,
    /// A certificate of nobody.
    Stranger,
    /// No certificate.
    Nobody,
}

/// What becomes of the row of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing, to the last column.
    None,
    /// There is one now, of the sender.
    Appears,
    /// It has one of these statuses, and is another than before.
    Becomes(&'static [&'static str]),
    /// The synchronized group that it is a part of has changed.
    OnGroup,
}

/// How a message is to be answered, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) status: u16,
    pub(super) effect: Effect,
}

pub(super) fn expected(kind: Kind, sender: Sender, state: State) -> Expected {
    let is_owner = match sender {
        Sender::OldPin | Sender::NewPin => true,
        Sender::Other => false,
        // Not one of a registered peer, or not under its own name: whatever it is about.
        Sender::RemovedPin | Sender::OtherAsOwner | Sender::Stranger | Sender::Nobody => {
            return refused(403);
        }
    };
    let side = state.side();
    match kind {
        Kind::Local | Kind::Ungranted | Kind::FinishExternal | Kind::NoSuch => refused(404),
        // It is one of its own, whatever task it speaks of.
        Kind::Raw => accepted(Effect::None),
        Kind::NewTask | Kind::Synchronize if side == Side::Nowhere => accepted(Effect::Appears),
        Kind::Synchronize if is_owner && side == Side::Sender => accepted(by_sender(kind, state)),
        // An id is used once.
        Kind::NewTask | Kind::Synchronize => refused(409),
        Kind::Finish | Kind::Progress | Kind::Stale | Kind::Confirm | Kind::Refuse => {
            match is_owner && side == Side::Receiver {
                true => accepted(by_receiver(kind, state)),
                false => refused(404),
            }
        }
        Kind::Execute | Kind::Cancel | Kind::Release => match is_owner && side == Side::Sender {
            true => accepted(by_sender(kind, state)),
            false => refused(404),
        },
    }
}

fn refused(status: u16) -> Expected {
    Expected {
        status,
        effect: Effect::None,
    }
}

fn accepted(effect: Effect) -> Expected {
    Expected {
        status: 200,
        effect,
    }
}

/// What the sender of a task brings about. What has ended does not change.
fn by_sender(kind: Kind, state: State) -> Effect {
    match (kind, state) {
        _ if state.has_ended() => Effect::None,
        (Kind::Cancel, _) => Effect::Becomes(&["cancelled"]),
        // Another round: it reserves once more, or for that one too.
        (Kind::Synchronize, State::Waiting | State::Syncing) => Effect::Becomes(&["syncing"]),
        (Kind::Synchronize, State::Reserved) => Effect::Becomes(&["reserved"]),
        (Kind::Synchronize, State::Released) => Effect::Becomes(&["syncing", "reserved"]),
        (Kind::Execute, State::Syncing) => Effect::Becomes(&["confirmed"]),
        (Kind::Execute, State::Reserved | State::Released) => {
            Effect::Becomes(&["executing", "finished", "error"])
        }
        (Kind::Release, State::Syncing | State::Reserved) => Effect::Becomes(&["created"]),
        _ => Effect::None,
    }
}

/// What the receiver of a task brings about.
fn by_receiver(kind: Kind, state: State) -> Effect {
    match (kind, state) {
        _ if state.has_ended() => Effect::None,
        (Kind::Finish, _) => Effect::Becomes(&["finished"]),
        (Kind::Progress, _) => Effect::Becomes(&["executing"]),
        (Kind::Confirm, State::Asked) => Effect::Becomes(&["confirmed"]),
        (Kind::Refuse, State::Asked | State::AskedAndConfirmed) => Effect::OnGroup,
        _ => Effect::None,
    }
}
