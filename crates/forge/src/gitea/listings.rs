//! Listings of jobs that are shared: one of an organisation, an account or an instance answers all its repositories.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use futures_util::lock::Mutex;
use tokio::time::Instant;

use super::{models::JobModel, place::Place};
use crate::ForgeError;

/// How much older than the question an answer may be: the looks of one round are asked within this time.
pub(super) const SHARED: Duration = Duration::from_millis(250);

/// A listing, or why there is none.
type Listing = Result<Rc<Vec<JobModel>>, ForgeError>;
/// The last one, and when it was begun. Whoever holds it lists.
type Kept = Rc<Mutex<Option<(Instant, Listing)>>>;

/// The last listing of each place.
#[derive(Debug, Default)]
pub(super) struct Listings(RefCell<BTreeMap<Place, Kept>>);

impl Listings {
    /// The listing of `place` as of now: one that was begun just before, or a new one. Who asks meanwhile waits for it.
    pub async fn of(&self, place: &Place, list: impl AsyncFnOnce() -> Result<Vec<JobModel>, ForgeError>) -> Listing {
        let asked = Instant::now();
        let kept = self.0.borrow_mut().entry(place.clone()).or_default().clone();
        let mut kept = kept.lock().await;
        if let Some((began, listing)) = kept.as_ref()
            && *began + SHARED >= asked
        {
            return listing.clone();
        }
        let began = Instant::now();
        let listing = list().await.map(Rc::new);
        *kept = Some((began, listing.clone()));
        listing
    }
}
