//! A process that refreshes: it runs on a thread, and stands still wherever it asks.

use crate::history::Strike;
use oauth_refresh_lock::disk::fault::{self, Fault};
use oauth_refresh_lock::error::{Code, Error};
use oauth_refresh_lock::refresh::{
    AskResult, Caller, Event, Patience, Program, Refresh, Run, Sent, Served, Turn, Work,
};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Longer than anything takes.
const HUNG: Duration = Duration::from_secs(30);

/// A refresh of some process, as the history sees it.
pub(crate) struct Process {
    pub call: Arc<Refresh>,
    orders: Sender<Order>,
    said: Receiver<Said>,
}

/// What a refresh goes on with.
pub(crate) enum Order {
    AskResult(AskResult<()>, Strike),
    SaveAgain,
}

/// Where a refresh stands.
#[derive(Debug)]
pub(crate) enum Said {
    Looked(Result<Served, Error>),
    Asks(String),
    /// An answer could not be saved yet.
    Unsaved(Error),
    Done(Turn<()>),
}

/// The program that a refresh runs in.
pub(crate) struct Puppet {
    orders: Receiver<Order>,
    said: Sender<Said>,
}

impl Puppet {
    fn say(&self, what: Said) {
        // A history that has failed hears nothing.
        let _ = self.said.send(what);
    }
}

impl Program for Puppet {
    type Failure = ();

    fn ask(&mut self, sent: &Sent) -> AskResult<()> {
        self.say(Said::Asks(sent.credential().refresh().expect("a refresh token").to_owned()));
        match self.orders.recv() {
            Ok(Order::AskResult(answer, strike)) => {
                fault::order(strike);
                answer
            }
            Ok(Order::SaveAgain) | Err(_) => AskResult::Lost,
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        if let Event::Unsaved(error) = event {
            self.say(Said::Unsaved(error));
        }
    }

    fn pause(&mut self, _: Duration) {
        if self.orders.recv().is_ok() {
            fault::order(None);
            return;
        }
        // The process dies. What it holds is let go of, as by the kernel; what it would write is not.
        fault::order(Some((1, Fault::Crash)));
        std::panic::resume_unwind(Box::new("died"));
    }

    fn spawn(work: Work) -> bool {
        work();
        true
    }

    fn after(_: f64, _: Work) {
        unreachable!("it waits for no pause");
    }

    fn random(&mut self) -> f64 {
        0.0
    }
}

impl Process {
    /// Looks, then takes its turn. An impatient caller does not wait for a lock that is taken: a peer is asking then.
    pub(crate) fn start(call: Refresh, is_patient: bool, strike: Strike) -> Self {
        let call = Arc::new(call);
        let ((orders, ordered), (say, said)) = (channel(), channel());
        let caller = Arc::new(Caller::default());
        let program = Puppet { orders: ordered, said: say };
        // It waits for locks, and for no pause: that one may ask again is another step of the history.
        let patience = Patience { waits: is_patient, ms: 0.0, asking_ms: 0.0 };
        let wanted = Arc::clone(&call);
        std::thread::spawn(move || {
            fault::order(strike);
            match wanted.look(None) {
                Ok(None) => Run::new(wanted, caller, patience, program).start(|program, end| match end {
                    // It died.
                    Turn::Refused(error) if error.code == Code::Internal => {}
                    end => program.say(Said::Done(end)),
                }),
                Ok(Some(served)) => program.say(Said::Looked(Ok(served))),
                Err(error) => program.say(Said::Looked(Err(error))),
            }
        });
        Self { call, orders, said }
    }

    pub(crate) fn hear(&self) -> Said {
        self.said.recv_timeout(HUNG).expect("it stands still, or is done")
    }

    pub(crate) fn go_on(&self, order: Order) {
        self.orders.send(order).expect("it stands still");
    }

    /// It dies, having sent.
    pub(crate) fn lose(&self) {
        self.go_on(Order::AskResult(AskResult::Lost, None));
        assert!(matches!(self.hear(), Said::Done(Turn::Left)));
    }

    /// It dies where it can't save an answer.
    pub(crate) fn die(self) {
        let Self { orders, said, .. } = self;
        drop(orders);
        assert!(matches!(said.recv_timeout(HUNG), Err(RecvTimeoutError::Disconnected)), "it lets go of everything");
    }
}
