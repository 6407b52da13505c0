//! Whole federations in memory: several peers, random trees over all of them, a network that
//! delays, reorders, loses and repeats messages, crashes between any two steps, operators who
//! call tasks off, and tasks that are delayed, expire, are tried again, or recover from the
//! errors of others.

mod checks;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::*;
use crate::model::{OnFailure, Outgoing, RoundMark, RunPhase};

/// How many handlers run, or hold reservations, at the same time on a peer.
const SLOTS: usize = 2;

/// The most tasks of a tree, and how deep it goes.
const MOST: usize = 200;
const DEEPEST: usize = 6;

/// A message that is under way until its sender knows that it arrived.
struct Flight {
    from: usize,
    to: usize,
    name: String,
    message: Outgoing,
    /// Whether its sender knew, when it wrote it, that the receiver reads our extensions.
    extended: bool,
}

/// One peer: its rows, and the runs that go on in its process.
#[derive(Default)]
struct RegisteredPeer {
    rows: Peer,
    runs: BTreeMap<(TaskId, i64), RunPhase>,
    ends: HashMap<TaskId, Status>,
    /// Tasks for which `reserve` has taken something that nobody has given back.
    taken: BTreeSet<TaskId>,
    /// In which rounds tasks have reserved.
    reserved: BTreeSet<(TaskId, RoundMark)>,
    /// Groups that have started.
    started: BTreeSet<TaskId>,
}

/// What may happen next.
enum Act {
    Complete(usize, TaskId, i64),
    Wake(usize, TaskId),
    Expire(usize, TaskId),
    Fly(usize),
}

struct Federation {
    rng: fastrand::Rng,
    seed: u64,
    now: Timestamp,
    members: Vec<RegisteredPeer>,
    flights: Vec<Flight>,
    /// How many tasks there are, and how deep each is.
    count: usize,
    depth: HashMap<TaskId, usize>,
    /// Members that neither show nor read our extensions.
    originals: BTreeSet<usize>,
    /// Who has seen that another one reads them: by a message from it, or an answer.
    met: BTreeSet<(usize, usize)>,
    /// How likely a handler succeeds, and a message gets through.
    luck: f64,
    network: f64,
    /// How likely a message that carries a task is refused or given up, wherever it may be by
    /// then.
    failing: f64,
    /// Whether operators call tasks off, and tasks have dates and handlers for errors.
    operated: bool,
    dated: bool,
    handled: bool,
    rounds: i64,
    /// How many errors were recovered from.
    recoveries: usize,
}

fn peer_id(member: usize) -> PeerId {
    PeerId(i64::try_from(member).unwrap() + 1)
}

impl Federation {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let members = rng.usize(1..=3);
        let originals = (0..members).filter(|_| rng.u8(..4) == 0).collect();
        let luck = [1.0, 1.0, 0.95, 0.8][rng.usize(..4)];
        let network = [1.0, 0.9, 0.6][rng.usize(..3)];
        let failing = [0.0, 0.0, 0.02, 0.1][rng.usize(..4)];
        let (operated, dated, handled) = (rng.u8(..4) == 0, rng.u8(..4) == 0, rng.bool());
        Self {
            rng,
            seed,
            now: NOW,
            members: (0..members).map(|_| RegisteredPeer::default()).collect(),
            flights: Vec::new(),
            count: 0,
            depth: HashMap::new(),
            originals,
            met: BTreeSet::new(),
            luck,
            network,
            failing,
            operated,
            dated,
            handled,
            rounds: 0,
            recoveries: 0,
        }
    }

    fn plain(&self, one: usize, other: usize) -> bool {
        self.originals.contains(&one) || self.originals.contains(&other)
    }

    /// Lets something happen to a member, and checks what must never be.
    fn tell(&mut self, at: usize, event: Event) -> Answer {
        let member = &mut self.members[at];
        let answer = member.rows.tell_at(event, self.now);

        let outgoing = std::mem::take(&mut member.rows.changes.outgoing);
        let resumed = std::mem::take(&mut member.rows.changes.resumed);
        let changed = std::mem::take(&mut member.rows.changes.changed);
        for id in &changed {
            self.check_group(at, id);
        }
        for id in resumed {
            let member = &mut self.members[at];
            let task = member
                .rows
                .world
                .tasks
                .get_mut(&id)
                .unwrap()
                .as_mut()
                .unwrap();
            if task.owner.is_some() && task.moment.is_some() {
                claim(task, NODE, self.now);
                let epoch = task.epoch;
                let moment = task.moment;
                self.check_start(at, &id);
                let run = moment.map(|moment| ((id, epoch), moment));
                self.members[at].runs.extend(run);
            }
        }
        for id in &changed {
            self.check(at, id);
        }
        for message in outgoing {
            let to = usize::try_from(message.peer.0 - 1).unwrap();
            let extended = self.met.contains(&(at, to));
            if message.needs_extensions && !extended {
                continue;
            }
            let name = format!(
                "{at}-{}",
                self.flights.len() + self.rng.usize(..usize::MAX / 2)
            );
            self.flights.push(Flight {
                from: at,
                to,
                name,
                message,
                extended,
            });
        }
        answer
    }

    /// Free slots go to waiting tasks.
    fn hand_out(&mut self, at: usize) {
        loop {
            let now = self.now;
            let tasks = self.members[at].rows.world.tasks.values_mut().flatten();
            let (mut used, mut waiting) = (0, Vec::new());
            for task in tasks {
                let directs = task.kind == TaskKind::Synchronized;
                used += usize::from(task.owner.is_some() && !directs);
                if super::super::runs_now(task, now) {
                    waiting.push((directs, task.id.clone()));
                }
            }
            waiting.retain(|(directs, _)| *directs || used < SLOTS);
            if waiting.is_empty() {
                return;
            }
            waiting.sort();
            let (_, id) = waiting.swap_remove(self.rng.usize(..waiting.len()));
            let member = &mut self.members[at];
            let run = {
                let task = member
                    .rows
                    .world
                    .tasks
                    .get_mut(&id)
                    .unwrap()
                    .as_mut()
                    .unwrap();
                claim(task, NODE, now);
                task.moment.map(|moment| ((id.clone(), task.epoch), moment))
            };
            member.runs.extend(run);
            self.check_start(at, &id);
        }
    }

    /// A run ends.
    fn complete(&mut self, at: usize, id: &TaskId, epoch: i64) {
        let task = self.members[at].rows.task(id.as_str()).clone();
        let was_for = self.members[at].runs.remove(&(id.clone(), epoch));
        let current = task.epoch == epoch && task.owner.is_some();
        let moment = task.moment.filter(|_| current);
        let well = self.rng.f64() < self.luck;
        if matches!(was_for, Some(RunPhase::Execute)) {
            // Whatever becomes of its run, the handler gives back what it had.
            self.members[at].taken.remove(id);
        }
        let mut children = Vec::new();
        match moment {
            Some(RunPhase::Execute) => {
                children = self.grow(at, id);
            }
            _ if was_for == Some(RunPhase::CancelReservation) => {
                let taken = self.members[at].taken.remove(id);
                assert!(taken, "seed {}: {id} gives back what it has not", self.seed);
            }
            _ => {}
        }
        // A reservation fails only for a while.
        let well = match moment {
            Some(RunPhase::Reserve) => well || task.round > RoundMark::Round(3),
            Some(RunPhase::EndRound | RunPhase::CancelReservation) => true,
            _ => well,
        };
        let outcome = if well {
            Ok(Box::new(Done {
                output: json(&1),
                parent_output: None,
                children,
                inputs: Vec::new(),
            }))
        } else {
            Err(TaskError::new("failed", "no luck"))
        };
        if moment == Some(RunPhase::Reserve) && well {
            self.members[at].taken.insert(id.clone());
        }
        if moment == Some(RunPhase::HandleError) && well {
            self.recoveries += 1;
        }
        self.tell(
            at,
            Event::Completed {
                id: id.clone(),
                queue: "q".into(),
                epoch,
                outcome,
                transaction: Transaction::default(),
                options: self.options(id),
            },
        );
    }

    /// What the action of a task declares.
    fn options(&self, id: &TaskId) -> ActionOptions {
        let number: u32 = id.as_str().trim_start_matches('t').parse().unwrap_or(0);
        ActionOptions {
            max_attempts: u32::MAX,
            retries: u32::from(number % 5 == 1),
            handles_errors: self.handled && number.is_multiple_of(2),
            ..ActionOptions::DEFAULT
        }
    }

    /// The children that a handler leaves: a random forest over all peers.
    fn grow(&mut self, at: usize, id: &TaskId) -> Vec<NewTask> {
        let depth = self.depth.get(id).copied().unwrap_or(0) + 1;
        let mut rows = Vec::new();
        let how_many = match depth {
            1 => self.rng.usize(1..4),
            _ => self.rng.usize(..4).saturating_sub(1),
        };
        for order in 0..how_many {
            self.plant(
                at,
                Some(id),
                i64::try_from(order).unwrap(),
                depth,
                &mut rows,
            );
        }
        rows
    }

    fn plant(
        &mut self,
        at: usize,
        parent: Option<&TaskId>,
        order: i64,
        depth: usize,
        rows: &mut Vec<NewTask>,
    ) {
        self.count += 1;
        let id = format!("t{}", self.count);
        let group = match self.rng.u8(..10) {
            _ if depth >= DEEPEST || self.count >= MOST => None,
            0 | 1 => Some(TaskKind::Sequential),
            2 | 3 => Some(TaskKind::Parallel),
            4..=6 => Some(TaskKind::Synchronized),
            _ => None,
        };
        let mut row = match group {
            None => self.task(at, &id),
            Some(kind) => {
                let mut row = new_task(&id, Role::Local, PeerId::SELF);
                row.state.kind = kind;
                // Some groups are directed.
                let directed = kind == TaskKind::Synchronized && self.rng.bool();
                row.state.queue = if directed { "directors" } else { "" }.into();
                row.state.expires_at = self.date(30).filter(|_| self.dated);
                if kind == TaskKind::Parallel && self.rng.bool() {
                    row.state.on_failure = OnFailure::WaitForAll;
                }
                row
            }
        };
        row.state.parent = parent.cloned();
        row.state.order = order;
        self.depth.insert(row.state.id.clone(), depth);
        let place = rows.len();
        let id = row.state.id.clone();
        rows.push(row);
        let Some(kind) = group else { return };
        for order in 0..self.rng.i64(0..4) {
            rows[place].state.open_children += 1;
            if kind == TaskKind::Synchronized {
                self.count += 1;
                let name = format!("t{}", self.count);
                let mut row = self.task(at, &name);
                row.state.parent = Some(id.clone());
                row.state.order = order;
                self.depth.insert(row.state.id.clone(), depth + 1);
                rows.push(row);
            } else {
                self.plant(at, Some(&id), order, depth + 1, rows);
            }
        }
    }

    /// A task for anybody.
    fn task(&mut self, at: usize, id: &str) -> NewTask {
        let to = self.rng.usize(..self.members.len());
        let mut task = if to == at {
            new_task(id, Role::Local, PeerId::SELF)
        } else {
            new_task(id, Role::Sent, peer_id(to))
        };
        if self.dated {
            task.state.run_at = self.date(10);
            task.state.expires_at = self.date(30);
        }
        task
    }

    /// Some time to come, for one of so many.
    fn date(&mut self, of: u8) -> Option<Timestamp> {
        let some = self.rng.u8(..of) == 0;
        some.then(|| self.now + Duration::from_secs(self.rng.u64(1..300)))
    }

    /// A message arrives, or not, and so does its answer.
    fn fly(&mut self, flight: usize) {
        if self.flights[flight].message.carries_task && self.rng.f64() < self.failing {
            let why = "no luck".to_owned();
            let verdict = match self.rng.bool() {
                true => DeliveryOutcome::Refused { status: 404, why },
                false => DeliveryOutcome::GivenUp { why },
            };
            self.settle(flight, verdict);
            return;
        }
        if self.rng.f64() > self.network {
            return;
        }
        let Flight {
            from,
            to,
            ref name,
            ref message,
            extended,
        } = self.flights[flight];
        let (name, message) = (name.clone(), message.clone());
        let ours = !self.plain(from, to);
        self.met.extend(ours.then_some((to, from)));
        let what = understood(&message, peer_id(from), ours, extended);
        let answer = self.tell(to, received(&name, 1, peer_id(from), what));
        if self.rng.f64() > self.network {
            return;
        }
        let verdict = match answer {
            Answer::Accepted | Answer::Ignored | Answer::Known(_) => DeliveryOutcome::Delivered,
            Answer::Conflict(why) => DeliveryOutcome::Refused { status: 409, why },
            Answer::UnknownTask => DeliveryOutcome::Refused {
                status: 404,
                why: "unknown".into(),
            },
        };
        self.settle(flight, verdict);
    }

    /// The sender learns what became of a message, and it is under way no more.
    fn settle(&mut self, flight: usize, verdict: DeliveryOutcome) {
        let Flight {
            from,
            to,
            name,
            message,
            ..
        } = self.flights.swap_remove(flight);
        let answered = !matches!(verdict, DeliveryOutcome::GivenUp { .. });
        let ours = !self.plain(from, to);
        self.met.extend((answered && ours).then_some((from, to)));
        let row = OutboxRow {
            seq: 1,
            peer: message.peer,
            message: name.as_str().into(),
            queue: message.queue,
            action: message.action,
            task: message.task,
            carries_task: message.carries_task,
            pin: None,
            body: "{}".into(),
            expires_at: None,
            attempts: 0,
            due_at: self.now,
            created_at: self.now,
            moot: false,
        };
        let message = Arc::new(row);
        self.tell(
            from,
            Event::Delivery(Box::new(Delivery { message, verdict })),
        );
    }

    /// The process dies, and the next one finds what it ran.
    fn crash(&mut self, at: usize) {
        let member = &mut self.members[at];
        for ((id, _), moment) in std::mem::take(&mut member.runs) {
            // What a run of a task that has ended had to give back is gone with its process.
            if moment == RunPhase::Execute && member.ends.contains_key(&id) {
                member.taken.remove(&id);
            }
        }
        let tasks = member.rows.world.tasks.values().flatten();
        let owned: BTreeSet<_> = tasks
            .filter(|task| task.owner.is_some())
            .map(|task| task.id.clone())
            .collect();
        for id in owned {
            let options = self.options(&id);
            self.tell(
                at,
                Event::Interrupted {
                    id,
                    owner: NODE,
                    options,
                },
            );
        }
    }

    /// What is due at a member by now.
    fn due(&self, at: usize) -> Vec<TaskId> {
        let tasks = self.members[at].rows.world.tasks.values().flatten();
        let due = tasks.filter(|task| task.wake_at.is_some_and(|wake| wake <= self.now));
        let due: BTreeSet<_> = due.map(|task| task.id.clone()).collect();
        due.into_iter().collect()
    }

    /// What has not ended and expires by now.
    fn expired(&self, at: usize) -> BTreeSet<TaskId> {
        let tasks = self.members[at].rows.world.tasks.values().flatten();
        let expired = tasks.filter(|task| {
            !task.status.is_terminal() && task.expires_at.is_some_and(|at| at <= self.now)
        });
        expired.map(|task| task.id.clone()).collect()
    }

    /// An operator calls off anything.
    fn cancel(&mut self) {
        let at = self.rng.usize(..self.members.len());
        let tasks = self.members[at].rows.world.tasks.values().flatten();
        let open = tasks.filter(|task| !task.status.is_terminal() && task.id.as_str() != "root");
        let open: BTreeSet<_> = open.map(|task| task.id.clone()).collect();
        if let Some(id) = self.rng.choice(open) {
            let why = "enough".to_owned();
            self.tell(at, Event::Cancel { id, why });
        }
    }

    /// Lets time go on to the next thing that is planned; `false`: nothing is.
    fn wait(&mut self) -> bool {
        let members = self.members.iter();
        let tasks = members.flat_map(|member| member.rows.world.tasks.values().flatten());
        let dates = tasks.flat_map(|task| {
            let open = !task.status.is_terminal();
            let waits = task.moment.is_some() && task.owner.is_none();
            let dates = [
                task.wake_at,
                task.run_at.filter(|_| waits),
                task.expires_at.filter(|_| open),
            ];
            dates.into_iter().flatten()
        });
        let flights = self.flights.iter();
        let later = flights.filter_map(|flight| flight.message.not_before);
        // What was due before waits for something else by now.
        let next = dates.chain(later).filter(|at| *at > self.now).min();
        match next {
            Some(at) => {
                self.now = self.now.max(at);
                true
            }
            None => false,
        }
    }

    fn run(&mut self) {
        let mut rows = Vec::new();
        let mut root = self.task(0, "root");
        root.state = new_task("root", Role::Local, PeerId::SELF).state;
        rows.push(root);
        self.tell(0, Event::Send(rows));
        for step in 0.. {
            assert!(step < 200_000, "seed {}: it never ends", self.seed);
            let mut acts: Vec<Act> = Vec::new();
            for at in 0..self.members.len() {
                self.hand_out(at);
                let runs = self.members[at].runs.keys().cloned();
                acts.extend(runs.map(|(id, epoch)| Act::Complete(at, id, epoch)));
                acts.extend(self.due(at).into_iter().map(|id| Act::Wake(at, id)));
                let expired = self.expired(at).into_iter();
                acts.extend(expired.map(|id| Act::Expire(at, id)));
            }
            let ready = |flight: &usize| {
                let not_before = self.flights[*flight].message.not_before;
                not_before.is_none_or(|at| at <= self.now)
            };
            acts.extend((0..self.flights.len()).filter(ready).map(Act::Fly));
            if acts.is_empty() {
                if self.wait() {
                    continue;
                }
                return;
            }
            // Sometimes time goes on while there is something to do.
            if self.rng.u8(..50) == 0 {
                self.now += Duration::from_secs(self.rng.u64(1..60));
                continue;
            }
            if self.rng.u8(..100) == 0 {
                let at = self.rng.usize(..self.members.len());
                self.crash(at);
                continue;
            }
            if self.operated && self.rng.u8(..200) == 0 {
                self.cancel();
                continue;
            }
            match acts.swap_remove(self.rng.usize(..acts.len())) {
                Act::Complete(at, id, epoch) => self.complete(at, &id, epoch),
                Act::Wake(at, id) => drop(self.tell(at, Event::Wake(id))),
                Act::Expire(at, id) => drop(self.tell(at, Event::Expire(id))),
                Act::Fly(flight) => self.fly(flight),
            }
        }
    }
}

/// What a message says to its receiver.
fn understood(message: &Outgoing, from: PeerId, ours: bool, extended: bool) -> MessageKind {
    let task = message.task.clone();
    let round = message.round.filter(|_| extended);
    match (&*message.action, &message.data) {
        ("frestq.update_task", Data::Update { status, .. }) => MessageKind::Update(Update {
            task,
            status: *status,
            output: json(&1),
            rev: message.rev.filter(|_| extended),
        }),
        ("frestq.cancel_task", _) => MessageKind::Cancel(task),
        ("frestq.synchronize_task", _) => {
            let mut new = new_task(task.as_str(), Role::Received, from);
            new.state.round = RoundMark::from_code(round.unwrap_or(i64::from(ours)));
            new.state.expires_at = message.expires_at;
            MessageKind::Synchronize(Box::new(new))
        }
        ("frestq.confirm_task_reservation", _) => MessageKind::Confirm {
            task,
            reservation: json(&1),
            seconds: Some(60),
            round,
        },
        ("frestq.refuse_reservation", _) => MessageKind::Refuse { task, round },
        ("frestq.cancel_reservation", _) => MessageKind::Release { task, round },
        ("frestq.execute_synchronized", _) => MessageKind::Execute {
            task,
            input: json(&1),
        },
        ("act", Data::Input) => {
            let mut new = new_task(task.as_str(), Role::Received, from);
            new.state.expires_at = message.expires_at;
            MessageKind::Task(Box::new(new))
        }
        other => panic!("nobody understands {other:?}"),
    }
}

#[test]
fn any_tree_over_any_peers_ends_through_loss_repetition_disorder_and_crashes() {
    let (mut most, mut rounds, mut recoveries) = (0, 0, 0);
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..500 {
        let mut federation = Federation::new(seed);
        federation.run();
        federation.check_end();
        most = most.max(federation.count);
        rounds = rounds.max(federation.rounds);
        recoveries += federation.recoveries;
        let root = federation.members[0].rows.task("root").status;
        *ends.entry(root.as_str()).or_default() += 1;
    }
    // The walks were worth it: large trees, groups that needed several rounds, errors that were
    // recovered from, both kinds of ends.
    assert!(most >= 100 && rounds >= 3, "{most} tasks, {rounds} rounds");
    assert!(recoveries > 100, "{recoveries}");
    assert!(ends.get("finished").is_some_and(|n| *n > 100), "{ends:?}");
    assert!(ends.get("error").is_some_and(|n| *n > 20), "{ends:?}");
}
