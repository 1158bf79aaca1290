//! An agent's store on disk: what is refused and left alone, what a write changes and keeps, and which user may write.

mod kept;
mod moved;
mod refused;
mod writers;

use crate::support::assert_names_path_and_no_secret;
use crate::support::child::{Role, hear, say, take_umask};
use crate::support::files::{mode, names, put, snapshot, text};
use crate::support::world::{PROFILE, World, credential, laid_out, oauth, shown, store_without, with};
use oauth_refresh_lock::error::{Code, Error, Result};
use oauth_refresh_lock::store::{FileStore, Profile, STORE_FILE};
use serde_json::{Value, json};

const ROOT: u32 = 0;
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().as_raw() == ROOT
}

/// Writes this profile, whatever is there.
fn write(store: &FileStore, id: &str, profile: &Value) -> Result<()> {
    store.lock()?.update(id, |_| (Some(oauth(profile)), ()))
}

fn read(store: &FileStore) -> Value {
    match store.read(PROFILE).unwrap() {
        Profile::Oauth(credential) => shown(&credential),
        other => panic!("{other:?}"),
    }
}

/// Asserts that reading and writing are refused with this code, and that nothing whatsoever has changed in the agents'
/// directories; in the state directory a write may have left its lock file.
#[track_caller]
fn assert_refused(name: &str, world: &World, store: &FileStore, code: Code) {
    let before = snapshot(&world.state().join("agents"));
    let asked = std::cell::Cell::new(false);
    let updated = store.lock().and_then(|mut guard| {
        guard.update(PROFILE, |_| {
            asked.set(true);
            (Some(oauth(&credential("new", 0))), ())
        })
    });
    let errors: [Error; 2] = [store.read(PROFILE).map(|_| ()).expect_err(name), updated.expect_err(name)];
    assert!(!asked.get(), "{name}: a change was asked for");
    for error in &errors {
        assert_eq!(error.code, code, "{name}: {error}");
        assert_names_path_and_no_secret(error, store.path());
    }
    assert_eq!(snapshot(&world.state().join("agents")), before, "{name}");
    assert!(names(&world.state()).iter().all(|name| name == "agents" || name == "locks"), "{name}");
}

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[
    ("try a store and write it", |arguments| {
        let store = World::of(arguments).sub().store();
        say(&format!("{:?}", store.refuse_unwritable().map_err(|error| error.code)));
        say(&format!("{:?}", write(&store, PROFILE, &credential("new", 0)).map_err(|error| error.code)));
    }),
    ("be refused a store", |arguments| {
        let world = World::of(arguments);
        assert_refused("without the right to read", &world, &world.sub().store(), Code::StoreUnreadable);
    }),
    ("count in a store", |arguments| {
        say("ready");
        hear();
        writers::count_up(&World::of(arguments).sub().store(), &arguments[1]);
    }),
    ("hang in a write", |arguments| {
        let guard = World::of(arguments).sub().store().lock().unwrap().update(PROFILE, |_| {
            say("inside");
            hear();
            (None, ())
        });
        guard.unwrap();
    }),
    ("write under a umask", |arguments| {
        let world = World::of(arguments);
        take_umask(&arguments[1]);
        write(&world.sub().store(), PROFILE, &credential("new", 0)).unwrap();
        write(&world.main().store(), PROFILE, &credential("new", 0)).unwrap();
    }),
];

// What there is nothing to refuse about

#[test]
fn a_missing_store_has_no_profile_and_the_first_write_makes_it_as_openclaw_does() {
    let world = World::new();
    let store = world.sub().store();
    assert_eq!(store.read(PROFILE).unwrap(), Profile::NoStore);
    assert_eq!(names(&world.state()), Vec::<String>::new());

    let profile = with(credential("new", 0), &json!({ "unknown": null }));
    write(&store, PROFILE, &profile).unwrap();
    let expected = json!({ "version": 1, "profiles": { PROFILE: profile } });
    assert_eq!(text(store.path()), format!("{expected:#}\n"));
    assert_eq!(mode(store.path()), 0o600);
    assert_eq!(mode(&world.sub().directory), 0o700);
    assert_eq!(names(&world.sub().directory), [STORE_FILE]);
}

#[test]
fn a_change_that_writes_nothing_leaves_the_file_untouched() {
    let world = World::new();
    world.sub().put(&credential("old", 0));
    let before = snapshot(&world.sub().directory);
    let seen = world.sub().store().lock().unwrap().update(PROFILE, |profile| (None, profile)).unwrap();
    assert_eq!(seen, Profile::Oauth(oauth(&credential("old", 0))));
    assert_eq!(snapshot(&world.sub().directory), before);
    // And makes none.
    world.main().store().lock().unwrap().update(PROFILE, |profile| (None, profile)).unwrap();
    assert!(!world.main().directory.exists());
}

#[test]
fn a_profile_is_what_its_type_or_in_older_files_its_mode_says() {
    let world = World::new();
    let profiles = [
        (json!({ "type": "oauth" }), true),
        (json!({ "mode": "oauth" }), true),
        (json!({ "type": "oauth", "mode": "token" }), true),
        (json!({ "type": "api_key", "key": "SECRET" }), false),
        (json!({ "type": "token", "mode": "oauth" }), false),
        (json!({}), false),
        (json!({ "type": 1 }), false),
    ];
    for (profile, is_oauth) in profiles {
        world.sub().put(&profile);
        let expected = if is_oauth { Profile::Oauth(oauth(&profile)) } else { Profile::NotOauth };
        assert_eq!(world.sub().store().read(PROFILE).unwrap(), expected, "{profile}");
    }
    world.sub().put_without_profile();
    assert_eq!(world.sub().store().read(PROFILE).unwrap(), Profile::Missing);
    put(&world.sub().path(), "{}");
    assert_eq!(world.sub().store().read(PROFILE).unwrap(), Profile::Missing);
}

#[test]
fn ids_that_mean_something_elsewhere_are_plain_keys_here() {
    for id in ["__proto__", "constructor", "profiles", "version", "a\"b\\c", "\n\u{1}", "../x", "é", "e\u{301}", "😀"]
    {
        let world = World::new();
        world.sub().put_without_profile();
        let store = world.sub().store();
        assert_eq!(store.read(id).unwrap(), Profile::Missing, "{id}");
        write(&store, id, &credential("one", 0)).unwrap();
        write(&store, id, &credential("two", 0)).unwrap();
        assert_eq!(store.read(id).unwrap(), Profile::Oauth(oauth(&credential("two", 0))), "{id}");
        let key = Value::from(id);
        let member = format!(",\n    {key}: {}", laid_out(&credential("two", 0)));
        assert_eq!(text(store.path()).replace(&member, ""), store_without(), "{id}");
    }
}
