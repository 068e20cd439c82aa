//! The project's chores: codegen, ci, bench, peers.
fn main() {}
