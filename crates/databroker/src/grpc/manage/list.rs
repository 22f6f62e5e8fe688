//! Lists: filtered, ordered, in pages (spec config-api.md 4).

use pomerium_api::databroker::{Error, Filter, Query};
use prost::Message;
use prost_reflect::{DynamicMessage, Value};
use prost_types::Struct;
use tonic::Status;

use super::entity::{Entity, text};
use super::order::Order;
use super::{Call, failed};

impl Call<'_> {
    pub(super) async fn list(&self, request: DynamicMessage) -> Result<DynamicMessage, Status> {
        let kind = self.kind;
        let order = text(&request, "order_by").unwrap_or_default();
        let order = Order::read(&order, &kind.entity).map_err(Status::invalid_argument)?;
        let query = Query {
            record_type: kind.record_type(),
            filter: filter(&request)?,
            limit: u64::MAX,
            ..Query::default()
        };
        let found = self.broker.query(query).await.map_err(failed)?.records;
        let entities: Vec<Entity> = found
            .iter()
            .map(|record| kind.read(record))
            .collect::<Result<_, _>>()?;
        let total = entities.len() as u64;
        let page = order
            .sorted(entities)
            .into_iter()
            .skip(number(&request, "offset").unwrap_or(0))
            .take(number(&request, "limit").unwrap_or(usize::MAX))
            .map(|entity| Value::Message(entity.into_message()));
        let mut answer = DynamicMessage::new(self.operation.output());
        answer.set_field_by_name(&kind.list, Value::List(page.collect()));
        answer.set_field_by_name("total_count", Value::U64(total));
        Ok(answer)
    }
}

/// A number, if it is set; the largest there is, if it is larger.
fn number(request: &DynamicMessage, name: &str) -> Option<usize> {
    if !request.has_field_by_name(name) {
        return None;
    }
    let number = request.get_field_by_name(name)?.as_u64()?;
    Some(usize::try_from(number).unwrap_or(usize::MAX))
}

fn filter(request: &DynamicMessage) -> Result<Filter, Status> {
    if !request.has_field_by_name("filter") {
        return Ok(Filter::default());
    }
    let given = request.get_field_by_name("filter");
    let given = given.as_ref().and_then(|value| value.as_message());
    let bytes = given.map(Message::encode_to_vec).unwrap_or_default();
    let fields =
        Struct::decode(bytes.as_slice()).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Filter::from_struct(&fields).map_err(|error| match error {
        Error::Unsupported(what) => Status::internal(what),
        error => failed(error),
    })
}
