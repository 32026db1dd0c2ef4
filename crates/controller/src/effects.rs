//! Effects: futures on the loop's one thread. Each belongs to a part of the controller, and its outcome comes back to
//! that part as a message; nothing else changes the part's state.

use std::{cell::RefCell, future::poll_fn, rc::Rc};

use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};

/// Where a part starts its effects. `O` = what they come to.
pub struct Effects<'w, O>(Box<dyn Fn(LocalBoxFuture<'w, O>) + 'w>);

impl<'w, O> Effects<'w, O> {
    /// Starts one. It runs while the loop waits.
    pub fn start(&self, effect: impl Future<Output = O> + 'w) {
        (self.0)(effect.boxed_local());
    }
}

/// All effects under way, of all parts.
pub struct Running<'w, O>(Rc<RefCell<FuturesUnordered<LocalBoxFuture<'w, O>>>>);

impl<'w, O: 'w> Running<'w, O> {
    /// None yet.
    pub fn none() -> Self {
        Self(Rc::default())
    }

    /// Where a part starts its effects, whose outcomes come wrapped.
    pub fn of<P: 'w>(&self, wrap: fn(P) -> O) -> Effects<'w, P> {
        let all = self.0.clone();
        Effects(Box::new(move |effect| all.borrow().push(effect.map(wrap).boxed_local())))
    }

    /// The outcome of the next that ends; None if none is under way.
    pub async fn next(&self) -> Option<O> {
        // No effect starts another, so nothing else borrows while one runs.
        poll_fn(|context| self.0.borrow_mut().poll_next_unpin(context)).await
    }
}
