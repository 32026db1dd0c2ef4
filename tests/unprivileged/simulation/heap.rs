//! Whose memory is whose: the controller and the world around it live in one process here, and only one of them is under
//! test. Every allocation remembers who made it; whoever frees it, it is that one's that is gone.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

/// Who allocates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The simulation.
    Worlds = 0,
    /// What is under test.
    Controllers = 1,
}

thread_local! {
    // Neither allocates when it is first used, nor has anything to drop: safe to use in an allocator.
    static WHOSE: Cell<usize> = const { Cell::new(0) };
    static LIVE: [Cell<isize>; 2] = const { [const { Cell::new(0) }; 2] };
}

/// Does something in somebody's name.
pub fn of<T>(whose: Whose, action: impl FnOnce() -> T) -> T {
    struct Before(usize);
    impl Drop for Before {
        fn drop(&mut self) {
            WHOSE.set(self.0);
        }
    }
    let _before = Before(WHOSE.replace(whose as usize));
    action()
}

/// A future that is always polled in somebody's name.
pub async fn polled<F: Future>(whose: Whose, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context: &mut Context<'_>| -> Poll<F::Output> {
        let future: Pin<&mut F> = future.as_mut();
        of(whose, || future.poll(context))
    })
    .await
}

/// What this thread's simulation has allocated in somebody's name and not freed, in bytes.
pub fn live(whose: Whose) -> isize {
    LIVE.with(|live| live[whose as usize].get())
}

fn count(whose: usize, bytes: isize) {
    // While a thread ends there may be nobody to tell.
    let _ = LIVE.try_with(|live| live[whose].set(live[whose].get() + bytes));
}

/// The system's allocator with a note in front of each block.
struct Noted;

/// The note, and the block after it aligned as it must be.
fn with_note(layout: Layout) -> Option<(Layout, usize)> {
    Layout::new::<usize>().extend(layout).ok()
}

// SAFETY: every block is the system's own with room for one number in front, placed by `Layout::extend`, so that size
// and alignment are as asked for; it is freed with the same layout, computed from the same request.
unsafe impl GlobalAlloc for Noted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((whole, offset)) = with_note(layout) else { return std::ptr::null_mut() };
        // SAFETY: `whole` holds at least the note, so it is not empty; the note lies at its aligned beginning.
        unsafe {
            let block = System.alloc(whole);
            if block.is_null() {
                return block;
            }
            let whose = WHOSE.try_with(Cell::get).unwrap_or_default();
            block.cast::<usize>().write(whose);
            count(whose, layout.size() as isize);
            block.add(offset)
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some((whole, offset)) = with_note(layout) else { return };
        // SAFETY: the pointer came from `alloc` with this layout, so the block begins `offset` before it.
        unsafe {
            let block = pointer.sub(offset);
            count(block.cast::<usize>().read(), -(layout.size() as isize));
            System.dealloc(block, whole);
        }
    }
}

#[global_allocator]
static ALLOCATOR: Noted = Noted;
