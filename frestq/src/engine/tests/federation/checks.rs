//! What must hold in every federation, whatever happens.

use super::*;

impl Federation {
    /// What is so after each change of a task.
    pub(super) fn check(&mut self, at: usize, id: &TaskId) {
        let seed = self.seed;
        let member = &mut self.members[at];
        let task = member.rows.task(id.as_str());
        if let Some(end) = member.ends.get(id) {
            assert_eq!(task.status, *end, "seed {seed}: {id} ended twice at {at}");
        } else if task.status.is_terminal() {
            member.ends.insert(id.clone(), task.status);
        }
        self.rounds = self.rounds.max(task.round.number().unwrap_or_default());
        if task.status == Status::Reserved {
            let reserved = (id.clone(), task.round);
            self.members[at].reserved.insert(reserved);
        }
        let member = &self.members[at];
        let task = member.rows.task(id.as_str());
        let Some(parent) = task.parent.as_ref().map(|id| member.rows.task(id.as_str())) else {
            return;
        };
        // What was called off or has expired may have ended before its turn, and groups with it.
        let failed = task.status.is_terminal() && task.status != Status::Finished;
        let begun = task.moment.is_some() || !(failed || task.status == Status::Created);
        if parent.kind == TaskKind::Sequential && task.order > 0 && begun {
            let family = &member.rows.world.families[&parent.id];
            let before = &family[usize::try_from(task.order - 1).unwrap()];
            let before = member.rows.task(before.as_str()).status;
            let forgiven = parent.on_failure == OnFailure::AskHandler && before.is_terminal();
            assert!(
                before == Status::Finished || forgiven,
                "seed {seed}: {id} began too early"
            );
        }
    }

    /// A group starts: all of it has reserved in this round, and what runs here holds that still.
    pub(super) fn check_group(&mut self, at: usize, id: &TaskId) {
        let seed = self.seed;
        let member = &self.members[at];
        let group = member.rows.task(id.as_str());
        let starts = group.kind == TaskKind::Synchronized && group.status == Status::Executing;
        if !starts || group.open_children == 0 || member.started.contains(id) {
            return;
        }
        for child in &member.rows.world.families[id] {
            let task = member.rows.task(child.as_str());
            if task.status.is_terminal() {
                continue;
            }
            let performer = match task.role {
                Role::Sent => usize::try_from(task.peer.0 - 1).unwrap(),
                _ => at,
            };
            let performer_of = &self.members[performer];
            let reserved = if performer == at {
                task.round == group.round && performer_of.taken.contains(child)
            } else if self.plain(at, performer) {
                let rounds = &performer_of.reserved;
                rounds.iter().any(|(reserved, _)| reserved == child)
            } else {
                let reserved = (child.clone(), group.round);
                performer_of.reserved.contains(&reserved)
            };
            assert!(reserved, "seed {seed}: {id} starts without {child}");
        }
        self.members[at].started.insert(id.clone());
    }

    /// A run begins: nothing that has ended, nothing of a group before that starts, and with what
    /// the task has reserved or with nothing.
    pub(super) fn check_start(&self, at: usize, id: &TaskId) {
        let seed = self.seed;
        let task = self.members[at].rows.task(id.as_str());
        if task.moment != Some(RunPhase::Execute) {
            return;
        }
        assert!(
            !self.members[at].ends.contains_key(id),
            "seed {seed}: {id} runs though it has ended"
        );
        assert_eq!(
            task.holds_reservation,
            self.members[at].taken.contains(id),
            "seed {seed}: {id} does not know what it holds"
        );
        for member in &self.members {
            let Some(Some(task)) = member.rows.world.tasks.get(id) else {
                continue;
            };
            let Some(parent) = &task.parent else { continue };
            let group = member.rows.task(parent.as_str());
            if group.kind != TaskKind::Synchronized {
                continue;
            }
            assert!(
                group.status == Status::Executing || group.status.is_terminal(),
                "seed {seed}: {id} runs while its group is {}",
                group.status
            );
        }
    }

    /// Everything has ended, everywhere.
    pub(super) fn check_end(&self) {
        let seed = self.seed;
        for (at, member) in self.members.iter().enumerate() {
            for task in member.rows.world.tasks.values().flatten() {
                assert!(
                    task.status.is_terminal() && task.owner.is_none() && task.moment.is_none(),
                    "seed {seed}: left over at {at}: {task:?}"
                );
            }
            assert!(
                member.taken.is_empty(),
                "seed {seed}: not given back at {at}: {:?}",
                member.taken
            );
        }
    }
}
