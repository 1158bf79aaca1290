//! What a process does, and what happens to it.

use super::row::Claim;
use super::{Broken, Host, Hosts, Journal, Mark, Mishaps, Outcome, Pauses, Row, Step, World};

impl Host {
    fn end(&mut self, journal: Journal) {
        self.step = Step::Decide;
        // An id is not used again once nothing is to be found out about it.
        if journal == Journal::Idle && self.journal != Journal::Idle {
            self.id += 1;
        }
        self.journal = journal;
    }

    /// Whether it has the successor, or will have it.
    pub(super) fn has_an_answer(self) -> bool {
        let has_it = self.stored || matches!(self.journal, Journal::Received | Journal::Owed);
        self.lives && (has_it || self.step == Step::WriteReceived)
    }
}

impl<const N: usize> Hosts<N> {
    /// A process's next step; `None` if it has to wait.
    pub(super) fn go(self, world: &World<N>, at: usize) -> Option<World<N>> {
        let mut next = world.clone();
        let me = &mut next.hosts[at];
        match me.step {
            Step::Decide => self.decide(world, at, me)?,
            Step::Claim | Step::TellThatItEnded | Step::Commit | Step::Tell(_) => {
                let row = self.asks_for(world, at);
                Self::hear(me, row);
                if let Some(row) = row {
                    next.write(row);
                }
            }
            Step::WriteDispatched => {
                if !self.is(Broken::JournalsNoDispatch) {
                    me.journal = Journal::Dispatched;
                }
                me.step = Step::LookAtTheClock;
            }
            Step::LookAtTheClock if me.age > self.oldest_to_send() => me.end(Journal::Claimed),
            Step::LookAtTheClock => {
                me.began_in_time = me.age == 0;
                me.step = Step::Send;
            }
            Step::Send => {
                me.step = Step::AwaitAnswer;
                next.count_call(at);
            }
            Step::AwaitAnswer if world.rotated => me.step = Step::Tell(Outcome::Refused),
            Step::AwaitAnswer => {
                me.step = Step::WriteReceived;
                next.rotated = true;
            }
            Step::WriteReceived => {
                me.journal = Journal::Received;
                me.step = Step::WriteStore;
                next.received = true;
            }
            Step::WriteStore => {
                me.stored = true;
                me.step = Step::Commit;
            }
            Step::UndoDispatched => {
                me.journal = Journal::Claimed;
                me.step = Step::Tell(Outcome::Unspent);
            }
        }
        Some(next)
    }

    fn decide(self, world: &World<N>, at: usize, me: &mut Host) -> Option<()> {
        match me.journal {
            Journal::Received => me.step = Step::WriteStore,
            Journal::Owed => me.step = Step::Commit,
            Journal::Dispatched => me.step = Step::TellThatItEnded,
            Journal::Idle | Journal::Claimed if me.stored => return None,
            Journal::Idle | Journal::Claimed if world.row == Row::Spent => {
                me.stored = true;
                me.end(Journal::Idle);
            }
            Journal::Idle | Journal::Claimed => {
                self.may_claim(world, at)?;
                (me.journal, me.step) = (Journal::Claimed, Step::Claim);
            }
        }
        Some(())
    }

    /// What it wants the row to say, if the row is one that it may replace.
    fn asks_for(self, world: &World<N>, at: usize) -> Option<Row> {
        let Host { id, step, .. } = world.hosts[at];
        let own = world.own_claim(at);
        match step {
            Step::Claim => Some(Row::Sent(Claim { host: at, id, mark: self.may_claim(world, at)? })),
            Step::Commit if world.row == Row::Spent => None,
            Step::Commit if self.is(Broken::CommitsOverItsOwnClaimOnly) => {
                matches!(world.row, Row::Sent(claim) if Some(claim) == own).then_some(Row::Spent)
            }
            Step::Commit => Some(Row::Spent),
            Step::TellThatItEnded => Some(Row::Unsure { claim: own?, ended: true }),
            Step::Tell(Outcome::Refused) => own.map(|_| Row::Dead),
            Step::Tell(Outcome::Unanswered) => {
                Some(Row::Unsure { claim: own?, ended: !self.is(Broken::DoesNotSayThatItsCallEnded) })
            }
            Step::Tell(Outcome::Unspent) if self.is(Broken::DropsTheMarkOfWhatIsFree) => {
                own.map(|_| Row::Free(Mark::First))
            }
            Step::Tell(Outcome::Unspent) => Some(Row::Free(own?.mark)),
            _ => None,
        }
    }

    /// The engine has answered: it wrote the row, or the row was another.
    fn hear(me: &mut Host, row: Option<Row>) {
        match (me.step, row) {
            (Step::Claim, Some(Row::Sent(claim))) => {
                me.mark = claim.mark;
                me.age = 0;
                me.step = Step::WriteDispatched;
            }
            // It keeps its id for its next claim: an older one of this id may have been made without its knowledge.
            (Step::Claim | Step::Tell(Outcome::Unspent), _) => me.end(Journal::Claimed),
            _ => me.end(Journal::Idle),
        }
    }

    /// The engine does what it is asked for, now or later, and the process does not learn it.
    pub(super) fn go_unheard(self, world: &World<N>, at: usize, later: bool) -> Option<World<N>> {
        let row = self.asks_for(world, at)?;
        let mut next = world.clone();
        next.left.silences -= 1;
        if later {
            next.late.push(row);
            next.late.sort();
        } else {
            next.write(row);
        }
        let me = &mut next.hosts[at];
        me.age = if me.step == Step::Claim { 0 } else { me.age };
        me.end(match me.step {
            Step::Claim if self.is(Broken::TakesNoAnswerForNoClaim) => Journal::Idle,
            Step::Commit if self.is(Broken::ForgetsWhatIsOwed) => Journal::Idle,
            Step::Commit => Journal::Owed,
            _ => me.journal,
        });
        Some(next)
    }

    fn oldest_to_send(self) -> u8 {
        match self.broken {
            Some(Broken::ChecksNoDeadline) => 2,
            Some(Broken::ChecksAgainstHalfTheLimit) => 1,
            _ => 0,
        }
    }

    /// Another host's claim is older than the limit.
    pub(super) fn give_up(self, world: &World<N>, at: usize) -> Option<World<N>> {
        let Row::Sent(claim) = world.row else { return None };
        let me = &world.hosts[at];
        if me.step != Step::Decide || world.own_claim(at).is_some() || world.hosts[claim.host].age < 2 {
            return None;
        }
        let mut next = world.clone();
        let frees = self.is(Broken::FreesASilentClaim);
        next.write(if frees { Row::Free(claim.mark) } else { Row::Unsure { claim, ended: false } });
        Some(next)
    }

    /// Time passes for a claim, or for a process that has one.
    pub(super) fn age(self, world: &World<N>, at: usize) -> Option<World<N>> {
        let Host { age, step, began_in_time, .. } = world.hosts[at];
        let is_swift = self.pauses == Pauses::OutsideTheCall && step.is_from_clock_to_commit();
        // A call that began in time ends before the limit.
        let last = if !is_swift || (step != Step::Send && !began_in_time) { 2 } else { u8::from(step != Step::Send) };
        if age >= last || !world.is_aging(at) {
            return None;
        }
        let mut next = world.clone();
        next.hosts[at].age += 1;
        Some(next)
    }

    /// A broken process forgets what its journal says, by what the engine said once.
    pub(super) fn load_stale(self, world: &World<N>, at: usize) -> Option<World<N>> {
        let forgets = match world.hosts[at].journal {
            Journal::Claimed => self.is(Broken::ForgetsItsClaimByAStaleLoad),
            Journal::Dispatched => self.is(Broken::ForgetsItsCallByAStaleLoad),
            _ => false,
        };
        let mut next = world.clone();
        next.hosts[at].end(Journal::Idle);
        (forgets && world.hosts[at].step == Step::Decide).then_some(next)
    }
}

impl<const N: usize> World<N> {
    fn is_aging(&self, at: usize) -> bool {
        self.hosts[at].step.has_the_claim() || matches!(self.row, Row::Sent(claim) if claim.host == at)
    }

    /// So that states which differ in nothing else are one.
    pub(super) fn forget_what_does_not_matter(&mut self) {
        for at in 0..N {
            let is_aging = self.is_aging(at);
            let me = &mut self.hosts[at];
            me.age = if is_aging { me.age } else { 0 };
            me.began_in_time &= me.step.is_from_clock_to_commit();
            me.mark = if me.step.has_the_claim() { me.mark } else { Mark::First };
        }
    }

    fn count_call(&mut self, at: usize) {
        let is_asking = |host: &Host| host.lives && host.step == Step::AwaitAnswer;
        let others = self.hosts.iter().enumerate().filter(|(other, _)| *other != at);
        let has_it = self.row == Row::Spent || self.hosts.iter().any(|host| host.has_an_answer());
        self.beside_an_answer |= has_it || others.into_iter().any(|(_, host)| is_asking(host));
        self.unmarked |= self.sent > 0 && self.hosts[at].mark == Mark::First;
        self.sent += 1;
        self.repeated += u8::from(self.hosts[at].mark != Mark::First);
    }

    /// Its request, if it has sent one, stays under way.
    fn abandon(&mut self, at: usize) {
        self.orphans += u8::from(self.hosts[at].step == Step::AwaitAnswer && !self.rotated);
    }

    pub(super) fn end_process(&mut self, at: usize) {
        self.abandon(at);
        let journal = self.hosts[at].journal;
        self.hosts[at].end(journal);
        self.left.deaths -= 1;
    }

    pub(super) fn lose_disk(&mut self, at: usize) {
        self.abandon(at);
        let me = &mut self.hosts[at];
        me.end(Journal::Idle);
        (me.lives, me.stored) = (false, false);
        self.left.disks -= 1;
    }

    pub(super) fn lose_answer(&mut self, at: usize) {
        self.abandon(at);
        self.hosts[at].step = Step::Tell(Outcome::Unanswered);
        self.left.unanswered -= 1;
    }

    pub(super) fn answer_unspent(&mut self, at: usize) {
        let me = &mut self.hosts[at];
        me.step = Step::UndoDispatched;
        self.sent -= 1;
        self.repeated -= u8::from(me.mark != Mark::First);
        self.left.unspent -= 1;
    }

    pub(super) fn lost_a_disk(&self, mishaps: Mishaps) -> bool {
        self.left.disks < mishaps.disks
    }
}
