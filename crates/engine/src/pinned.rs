//! Futures made where they stay.

use std::pin::Pin;

/// The future that `make` makes, in a box.
///
/// `Box::pin(future)` makes it on the stack, gets memory, and copies all of it there, also what it does not use yet: two
/// kilobytes for a call. With the memory there first, only what it begins with is written.
#[inline]
pub(crate) fn pinned<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}
