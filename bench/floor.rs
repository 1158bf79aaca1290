//! What the system calls alone cost: the floor under every figure of the benchmarks. Times are milliseconds of the clock that
//! all processes of one machine share; everything is printed as JSON.
//!
//! | command | |
//! |---|---|
//! | `calls <dir>` | percentiles of single calls, by name |
//! | `loop <lock> <start> <ms>` | takes and releases the lock for so long: `[requested, acquired, released, …]` from `start` |
//! | `hold <lock>` | takes the lock, says `0`, and keeps it |
//! | `wait <lock>` | says `0`, waits for the lock, says when it came |

#![cfg_attr(unix, allow(clippy::disallowed_methods, reason = "it measures what they cost"))]

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() -> std::io::Result<()> {
    unix::main()
}

#[cfg(unix)]
mod unix {
    use rustix::fs::{FlockOperation, flock};
    use rustix::time::{ClockId, clock_gettime};
    use serde_json::{Map, Value, json};
    use std::fs::{self, File, OpenOptions};
    use std::hint::spin_loop;
    use std::io::{self, Error, Write};
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::thread::sleep;
    use std::time::Duration;

    const ROUNDS: usize = 2_000;
    /// What waits for the disk is done less often.
    const SLOW_ROUNDS: usize = 200;
    const HOLD_MS: f64 = 0.1;
    const PAUSE: Duration = Duration::from_micros(50);
    const RECORD: [u8; 256] = [b' '; 256];

    pub(super) fn main() -> io::Result<()> {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let words: Vec<_> = arguments.iter().map(String::as_str).collect();
        match words[..] {
            ["calls", directory] => calls(Path::new(directory)),
            ["loop", lock, start, ms] => hold_often(lock, number(start)?, number(ms)?),
            ["hold", lock] => {
                let _file = locked(lock)?;
                say(&json!(0))?;
                loop {
                    sleep(Duration::from_secs(3600));
                }
            }
            ["wait", lock] => {
                let file = open(lock)?;
                say(&json!(0))?;
                flock(&file, FlockOperation::LockExclusive)?;
                say(&json!(now()))
            }
            _ => Err(Error::other("calls <dir> | loop <lock> <start> <ms> | hold <lock> | wait <lock>")),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn now() -> f64 {
        let time = clock_gettime(ClockId::Monotonic);
        time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
    }

    fn number(text: &str) -> io::Result<f64> {
        text.parse().map_err(Error::other)
    }

    fn say(value: &Value) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{value}")?;
        out.flush()
    }

    fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
    }

    fn locked(path: &str) -> io::Result<File> {
        let file = open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn hold_often(lock: &str, start: f64, ms: f64) -> io::Result<()> {
        let file = open(lock)?;
        sleep(Duration::from_secs_f64((start - now()).max(0.0) / 1e3));
        let mut times = Vec::new();
        while now() < start + ms {
            let requested = now();
            flock(&file, FlockOperation::LockExclusive)?;
            let acquired = now();
            // Until the others sleep in the kernel: a hand-off is the way from there, not the luck of who comes just then.
            while now() < acquired + HOLD_MS {
                spin_loop();
            }
            times.extend([requested, acquired, now()].map(|time| time - start));
            flock(&file, FlockOperation::Unlock)?;
            // Who asks again at once is there before anybody has woken up.
            sleep(PAUSE);
        }
        say(&json!(times))
    }

    fn calls(directory: &Path) -> io::Result<()> {
        let (lock, store) = (directory.join("lock"), directory.join("store"));
        let file = open(&lock)?;
        let text = store_text(20);
        fs::write(&store, &text)?;
        let mut found = Map::new();
        let mut measure = |name: &str, rounds: usize, work: &mut dyn FnMut() -> io::Result<()>| -> io::Result<()> {
            let mut samples = Vec::with_capacity(rounds);
            for _ in 0..rounds {
                let begun = now();
                work()?;
                samples.push(now() - begun);
            }
            samples.sort_by(f64::total_cmp);
            let at = |percent: usize| samples[(rounds * percent).div_ceil(100).clamp(1, rounds) - 1];
            found.insert(name.to_owned(), json!({ "p50": at(50), "p99": at(99), "max": at(100) }));
            Ok(())
        };
        measure("flock, unlock", ROUNDS, &mut || {
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(flock(&file, FlockOperation::Unlock)?)
        })?;
        measure("open, flock, close", ROUNDS, &mut || Ok(flock(&open(&lock)?, FlockOperation::LockExclusive)?))?;
        measure("open, flock, write who holds it, close", ROUNDS, &mut || {
            let file = open(&lock)?;
            flock(&file, FlockOperation::LockExclusive)?;
            file.write_all_at(&RECORD, 0)
        })?;
        measure("read and parse a store of 20 profiles", ROUNDS, &mut || {
            let parsed: Value = serde_json::from_slice(&fs::read(&store)?)?;
            std::hint::black_box(parsed);
            Ok(())
        })?;
        for (name, durable) in [("replace a store", false), ("replace a store, durably", true)] {
            measure(name, SLOW_ROUNDS, &mut || replace(directory, &store, &text, durable))?;
        }
        let journal = open(directory.join("journal"))?;
        for (name, sync) in [("one after another", sync_in_turn as Sync), ("side by side", sync_side_by_side)] {
            let name = format!("what a refresh syncs after its answer, {name}");
            measure(&name, SLOW_ROUNDS, &mut || settle(directory, &journal, &text, sync))?;
        }
        say(&Value::Object(found))
    }

    type Sync = fn(&[File]) -> io::Result<()>;

    fn sync_in_turn(files: &[File]) -> io::Result<()> {
        files.iter().try_for_each(File::sync_all)
    }

    fn sync_side_by_side(files: &[File]) -> io::Result<()> {
        std::thread::scope(|scope| {
            let all: Vec<_> = files.iter().map(|file| scope.spawn(|| file.sync_all())).collect();
            all.into_iter().try_for_each(|one| one.join().map_err(|_| Error::other("a thread has failed"))?)
        })
    }

    /// The receipt and two stores, their directories, and the journal again.
    fn settle(directory: &Path, journal: &File, text: &str, sync: Sync) -> io::Result<()> {
        let folders = ["own", "main"].map(|name| directory.join(name));
        let record = || journal.write_all_at(&RECORD, 0).and_then(|()| journal.try_clone());
        let mut files = vec![record()?];
        for folder in &folders {
            fs::create_dir_all(folder)?;
            let mut file = File::create(folder.join("store.tmp"))?;
            file.write_all(text.as_bytes())?;
            files.push(file);
        }
        sync(&files)?;
        for folder in &folders {
            fs::rename(folder.join("store.tmp"), folder.join("store"))?;
        }
        let opened: io::Result<Vec<_>> = folders.iter().map(File::open).collect();
        sync(&opened?)?;
        record()?.sync_all()
    }

    fn replace(directory: &Path, store: &Path, text: &str, durable: bool) -> io::Result<()> {
        let temporary = store.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, store)?;
        if durable { File::open(directory)?.sync_all() } else { Ok(()) }
    }

    fn store_text(profiles: usize) -> String {
        let profile = |number: usize| {
            let secret = |name: &str| format!("{name}-{number:0>64}");
            let (access, refresh) = (secret("access"), secret("refresh"));
            let fields = json!({
                "type": "oauth", "provider": "bench", "access": access, "refresh": refresh, "expires": 1_700_000_000_000_u64,
                "email": "owner@example.test",
            });
            (format!("bench:{number}"), fields)
        };
        let profiles: Map<_, _> = (0..profiles).map(profile).collect();
        format!("{:#}\n", json!({ "version": 1, "profiles": profiles }))
    }
}
