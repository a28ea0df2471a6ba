//! Arenas: the scratch memory a model works in, without an allocator.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

/// `BYTES` bytes of scratch memory, aligned for any model. Needs no initialization: put it in a
/// `static`, in a `Box`, or on a large stack, and pass it to `run`.
#[repr(C, align(64))]
pub struct Arena<const BYTES: usize>([MaybeUninit<u8>; BYTES]);

impl<const BYTES: usize> Arena<BYTES> {
    /// Its alignment: the largest [`crate::abi::Model::arena_align`] that it can serve.
    pub const ALIGN: usize = align_of::<Self>();

    /// An arena with arbitrary contents.
    pub const fn new() -> Self {
        Arena([MaybeUninit::uninit(); BYTES])
    }

    /// The memory, as [`crate::Model::run`] takes it.
    pub fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        &mut self.0
    }
}

impl<const BYTES: usize> Default for Arena<BYTES> {
    fn default() -> Self {
        Arena::new()
    }
}

/// An [`Arena`] for a `static` (`.bss`), handed out once:
///
/// ```
/// static ARENA: lmc_runtime::StaticArena<4096> = lmc_runtime::StaticArena::new();
/// let arena = ARENA.take().expect("taken once");
/// # let _ = arena.memory();
/// assert!(ARENA.take().is_none());
/// ```
pub struct StaticArena<const BYTES: usize> {
    memory: UnsafeCell<Arena<BYTES>>,
    taken: AtomicBool,
}

// SAFETY: `take` hands the memory out to one caller only.
unsafe impl<const BYTES: usize> Sync for StaticArena<BYTES> {}

impl<const BYTES: usize> StaticArena<BYTES> {
    /// An arena that nobody has taken.
    pub const fn new() -> Self {
        StaticArena { memory: UnsafeCell::new(Arena::new()), taken: AtomicBool::new(false) }
    }

    /// The arena; `None` from the second call on.
    #[allow(clippy::mut_from_ref)] // handed out once, guarded by the flag
    pub fn take(&'static self) -> Option<&'static mut Arena<BYTES>> {
        let first = !self.taken.swap(true, Ordering::Acquire);
        // SAFETY: only the first caller gets here, so the reference is unique.
        first.then(|| unsafe { &mut *self.memory.get() })
    }
}

impl<const BYTES: usize> Default for StaticArena<BYTES> {
    fn default() -> Self {
        StaticArena::new()
    }
}
