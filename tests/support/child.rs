//! Real processes: the test binary starts itself again to play a role, and talks with its parent in lines.

use super::HUNG;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{self, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// What a child does: its name, and how it is done with the child's arguments. No two have one name.
pub type Role = (&'static str, fn(&[String]));

/// The test that every child runs.
const ENTRY: &str = "a_child_that_fails_is_noticed";
const ROLE: &str = "OAUTH_REFRESH_LOCK_TEST_ROLE";
const ARGUMENTS: &str = "OAUTH_REFRESH_LOCK_TEST_ARGUMENTS";
/// The test harness writes to the same stream.
const MARK: char = '@';

/// In a child: plays its role. In the test run: tests that a child which fails is noticed.
pub fn play_or_test(roles: &[&[Role]]) {
    let roles = roles.concat();
    if let Ok(played) = std::env::var(ROLE) {
        let arguments: Vec<String> = serde_json::from_str(&std::env::var(ARGUMENTS).unwrap()).unwrap();
        let role = roles.iter().find(|(name, _)| *name == played);
        return role.unwrap_or_else(|| panic!("no such role: {played}")).1(&arguments);
    }
    assert_eq!(roles.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), roles.len());
    let mut command = command("a role that nobody plays", &[]);
    command.stderr(Stdio::null());
    assert!(!Child::start(command).ended().success());
}

/// In a child: the umask of all that it makes from now on, in octal.
#[cfg(unix)]
pub fn take_umask(mask: &str) {
    let mask = u32::from_str_radix(mask, 8).unwrap();
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(mask as _));
}

fn command(role: &str, arguments: &[&str]) -> Command {
    // Not by its path: another user may lack the right to come here.
    let program = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe().unwrap() };
    let mut command = Command::new(program);
    command
        .args([ENTRY, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(ARGUMENTS, serde_json::to_string(arguments).unwrap());
    command
}

/// In a child: tells the parent.
pub fn say(event: &str) {
    println!("\n{MARK}{event}");
    std::io::stdout().flush().unwrap();
}

/// In a child: waits for a word of the parent; ends with it.
pub fn hear() -> String {
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).unwrap_or(0) == 0 {
        process::exit(1);
    }
    line.trim_end().to_owned()
}

/// A child, killed when dropped.
pub struct Child {
    process: process::Child,
    stdin: Option<ChildStdin>,
    events: Receiver<String>,
}

impl Child {
    /// Starts a child that plays `role`.
    pub fn spawn(role: &str, arguments: &[&str]) -> Self {
        Self::start(command(role, arguments))
    }

    /// Starts a child that plays `role` as another user. Only root may.
    #[cfg(unix)]
    pub fn spawn_as(user: u32, role: &str, arguments: &[&str]) -> Self {
        use std::os::unix::process::CommandExt;
        let mut command = command(role, arguments);
        command.uid(user).gid(user).current_dir("/");
        Self::start(command)
    }

    /// Starts a child that plays `role` by way of another program, which is given its command line after its own
    /// arguments.
    pub fn spawn_through(mut through: Command, role: &str, arguments: &[&str]) -> Self {
        let direct = command(role, arguments);
        through.arg(std::env::current_exe().unwrap()).args(direct.get_args());
        through.envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::start(through)
    }

    fn start(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
        let stdin = process.stdin.take();
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(event) = line.strip_prefix(MARK) {
                    let _ = sender.send(event.to_owned());
                }
            }
        });
        Self { process, stdin, events }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the child says something.
    pub fn listen(&self) -> String {
        self.events.recv_timeout(HUNG).expect("a child that speaks")
    }

    /// Waits until the child says just this.
    pub fn expect(&self, event: &str) {
        assert_eq!(self.listen(), event);
    }

    /// What the child has said and nobody has listened to yet.
    pub fn said(&self) -> Option<String> {
        self.events.try_recv().ok()
    }

    pub fn tell(&mut self, word: &str) {
        writeln!(self.stdin.as_mut().expect("open"), "{word}").expect("a child that listens");
    }

    /// Kills it with SIGKILL, and waits until the kernel has taken everything from it.
    pub fn kill(mut self) {
        self.process.kill().expect("a child that lives");
        let status = self.process.wait().expect("a child");
        assert!(!status.success(), "it had ended before");
    }

    /// Waits for its end.
    pub fn ended(mut self) -> ExitStatus {
        loop {
            match self.events.recv_timeout(HUNG) {
                Ok(event) => assert!(event.is_empty(), "unheard: {event}"),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return self.process.wait().expect("a child"),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("a child that does not end"),
            }
        }
    }

    /// Waits for its end, which must be a good one.
    pub fn ends_well(self) {
        let status = self.ended();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
