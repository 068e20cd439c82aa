//! End-to-end tests over the whole workspace: fixtures library and one test binary.
