//! Single flight: those who need the same document at the same time share one request.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use crate::IdentityError;

type Journey<T> = Shared<BoxFuture<'static, Result<T, IdentityError>>>;

/// At most one request under way.
pub(crate) struct Flight<T: Clone>(Mutex<Option<Journey<T>>>);

impl<T: Clone + Send + Sync + 'static> Flight<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Joins the request under way, or starts one.
    pub(crate) async fn join(
        &self,
        start: impl FnOnce() -> BoxFuture<'static, Result<T, IdentityError>>,
    ) -> Result<T, IdentityError> {
        let journey = {
            let mut current = self.0.lock();
            match current.as_ref().filter(|journey| journey.peek().is_none()) {
                Some(journey) => journey.clone(),
                None => current.insert(start().shared()).clone(),
            }
        };
        journey.await
    }
}
