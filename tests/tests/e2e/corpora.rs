//! The corpora of `cargo xtask fuzz`, replayed: what was found once is looked for in every build.

use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a crate of its own elsewhere")]
mod targets;

#[test]
fn every_input_of_every_corpus_holds() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join("corpus");
    for (name, target) in targets::TARGETS {
        let mut n_replayed = 0;
        for entry in std::fs::read_dir(corpora.join(name)).unwrap() {
            let path = entry.unwrap().path();
            let input = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(outcome.is_ok(), "{}: {}", path.display(), input.escape_ascii());
            n_replayed += 1;
        }
        assert!(n_replayed > 0, "{name} has no corpus");
    }
}
