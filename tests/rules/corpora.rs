//! What the fuzzers found worth keeping, and what was written for them: `fuzz/corpus`.

#[path = "../../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

#[test]
fn every_corpus_is_read_without_a_panic() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join("corpus");
    for (name, target) in targets::ALL {
        let inputs: Vec<_> =
            fs::read_dir(corpora.join(name)).expect(name).map(|entry| entry.expect(name).path()).collect();
        assert!(inputs.len() > 10, "{name} has {} inputs", inputs.len());
        for input in inputs {
            target(&fs::read(input).expect(name));
        }
    }
}
