//! Room for recursion: trees that the guard lets pass are deeper, in a debug build, than a thread's stack.

/// Stack for one statement, bytes; only what is touched takes memory.
const STACK_BYTES: usize = 16 << 20;

/// Runs `work` with room for the deepest statement.
pub(crate) fn with_room<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK_BYTES / 2, STACK_BYTES, work)
}
