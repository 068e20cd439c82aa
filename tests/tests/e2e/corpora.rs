//! The corpora of `cargo xtask fuzz`, replayed: what was found once is looked for in every build.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::fuzz::{mutated, mutation};

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a crate of its own elsewhere")]
mod targets;

/// The inputs of one corpus with their names.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join("corpus").join(name);
    let mut inputs: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{name} has no corpus");
    inputs
}

#[test]
fn every_input_of_every_corpus_holds() {
    for (name, target) in targets::TARGETS {
        for (path, input) in corpus(name) {
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(outcome.is_ok(), "{path}: {}", input.escape_ascii());
        }
    }
}

#[test]
fn a_few_mutations_of_every_corpus_hold_as_well() {
    let cases = std::env::var("MPE_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500);
    for (name, target) in targets::TARGETS {
        let corpus = corpus(name);
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&(any::<Index>(), vec(mutation(), 1..6)), |(seed, mutations)| {
            target(&mutated(seed.get(&corpus).1.clone(), &mutations));
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
