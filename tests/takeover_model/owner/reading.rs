//! What an owner reads before it decides: the journals of all terms up to its own, then the store.

use super::{Broken, End, Owners, Process, Step};
use crate::journal::{Doubt, Journal, State};
use crate::tenure::{Stage, TERMS, Terms};

impl<const N: usize> Owners<N> {
    pub(super) fn reads_too_early(self, me: &Process) -> bool {
        self.is(Broken::ReadsJournalsBeforeMarker) && me.tenure.stage == Stage::CreateMarker && !me.has_read
    }

    pub(super) fn first_reading(self, me: &Process) -> Step {
        match self.broken {
            _ if me.has_read => Step::ReadStore,
            Some(Broken::ReadsStoreBeforeJournals) => Step::ReadStore,
            Some(Broken::ReadsNoOlderJournals) => Step::ReadJournal(me.tenure.term),
            _ => Step::ReadJournal(0),
        }
    }

    /// `false` if another owner is asking, and has to be waited for.
    pub(super) fn read_journal(
        self,
        me: &mut Process,
        terms: &mut Terms,
        journals: &mut [Journal; TERMS],
        from: usize,
    ) -> bool {
        let journal = journals[from];
        let is_older = from < me.tenure.term;
        let is_asking = journal.is_dispatched() && is_older && terms.held[from] && !terms.overdue[from];
        if is_asking && !self.is(Broken::ProbesBesideAnyOwner) {
            return false;
        }
        me.doubt = me.doubt.max(journal.doubt());
        me.found |= journal.state == State::Received && !self.is(Broken::OverlooksReceived);
        if is_older && !terms.held[from] && journal != Journal::EMPTY && !self.reads_too_early(me) {
            terms.held[from] = true;
            me.moved = journal;
            let empties_first = self.is(Broken::EmptiesBeforeItCopies);
            me.step = if empties_first { Step::EmptyJournal(from) } else { Step::CopyJournal(from) };
        } else {
            self.after_reading(me, terms, from);
        }
        true
    }

    /// Moves what an owner that is gone has left into one's own journal.
    pub(super) fn move_journal(
        self,
        me: &mut Process,
        terms: &mut Terms,
        journals: &mut [Journal; TERMS],
        from: usize,
    ) {
        let copies = me.step == Step::CopyJournal(from);
        if copies {
            journals[me.tenure.term].add(me.moved);
        } else {
            journals[from] = Journal::EMPTY;
        }
        if copies == self.is(Broken::EmptiesBeforeItCopies) {
            terms.held[from] = false;
            self.after_reading(me, terms, from);
        } else {
            me.step = if copies { Step::EmptyJournal(from) } else { Step::CopyJournal(from) };
        }
    }

    fn after_reading(self, me: &mut Process, terms: &mut Terms, from: usize) {
        me.moved = Journal::EMPTY;
        if from < me.tenure.term {
            me.step = Step::ReadJournal(from + 1);
        } else if self.reads_too_early(me) {
            (me.step, me.has_read) = (Step::Acquire, true);
        } else if self.is(Broken::ReadsStoreBeforeJournals) {
            me.decide(terms);
        } else {
            me.step = Step::ReadStore;
        }
    }
}

impl Process {
    /// What to do, once everything is read.
    pub(super) fn decide(&mut self, terms: &mut Terms) {
        match self.doubt {
            _ if self.found => self.step = Step::Commit,
            Doubt::None | Doubt::Uncertain => self.step = Step::WriteClaimed,
            Doubt::Buried => self.end(terms, End::ToldToLogIn),
            Doubt::Dead => self.end(terms, End::GrantDead),
        }
    }
}
