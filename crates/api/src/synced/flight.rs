//! Single flight: callers that miss the same session at the same time share one question.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use crate::databroker::{Databroker, Error, Record};
use crate::pb::session::Session;
use crate::records::RecordMessage;

/// The live record and the server version it was read at; `None` when there is none.
pub(super) type Answer = Result<Option<(u64, Record)>, Error>;

type Flight = Shared<BoxFuture<'static, Answer>>;

/// Questions under way, by session id.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<String, Flight>>);

impl Flights {
    /// Asks for a session, or joins the question already under way (then the first value is true).
    pub(super) async fn ask(&self, broker: &Arc<dyn Databroker>, id: &str) -> (bool, Answer) {
        let (joined, flight) = self.join_or_start(broker, id);
        let landing = Landing {
            flights: self,
            id,
            flight: &flight,
        };
        let answer = flight.clone().await;
        drop(landing);
        (joined, answer)
    }

    fn join_or_start(&self, broker: &Arc<dyn Databroker>, id: &str) -> (bool, Flight) {
        let mut flights = self.0.lock();
        // One that has landed answers for the past.
        if let Some(flight) = flights.get(id).filter(|flight| flight.peek().is_none()) {
            return (true, flight.clone());
        }
        let flight = question(broker.clone(), id.to_owned()).boxed().shared();
        flights.insert(id.to_owned(), flight.clone());
        (false, flight)
    }
}

/// Takes a question off the list when one who waits for it has the answer, or gave up.
struct Landing<'a> {
    flights: &'a Flights,
    id: &'a str,
    flight: &'a Flight,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        if flights
            .get(self.id)
            .is_some_and(|known| known.ptr_eq(self.flight))
        {
            flights.remove(self.id);
        }
    }
}

async fn question(broker: Arc<dyn Databroker>, id: String) -> Answer {
    let versions = broker.versions().await?;
    match broker.get(Session::TYPE, &id).await {
        Ok(record) => Ok(Some((versions.server_version, record))),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
