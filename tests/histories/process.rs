//! A process that refreshes: it runs on a thread, and stands still wherever it asks.

use crate::history::Strike;
use oauth_refresh_lock::disk::fault::{self, Fault};
use oauth_refresh_lock::error::Error;
use oauth_refresh_lock::refresh::{AskResult, Caller, Event, Program, Refresh, Run, Sent, Served, Turn};
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
}

impl Process {
    /// Looks, then takes its turn. An impatient caller does not wait for a lock that is taken: a peer is asking then.
    pub(crate) fn start(call: Refresh, is_patient: bool, strike: Strike) -> Self {
        let call = Arc::new(call);
        let ((orders, ordered), (say, said)) = (channel(), channel());
        let caller = Arc::new(Caller::default());
        let program = Puppet { orders: ordered, said: say };
        let run = Run { call: Arc::clone(&call), caller, is_patient, program };
        std::thread::spawn(move || {
            fault::order(strike);
            match run.call.look(None) {
                Ok(None) => run.begin(|mut run, first| {
                    let end = first.map_or_else(|turn| *turn, |lock| run.turn(lock));
                    run.program.say(Said::Done(end));
                }),
                Ok(Some(served)) => run.program.say(Said::Looked(Ok(served))),
                Err(error) => run.program.say(Said::Looked(Err(error))),
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
