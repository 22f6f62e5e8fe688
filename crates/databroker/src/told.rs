//! How records of each type are kept, asked of a databroker that may be of a former version.

use std::collections::BTreeMap;

use pomerium_api::databroker::{Databroker, Error, Options};

/// What it says.
pub(crate) struct Told {
    /// By type.
    pub(crate) types: BTreeMap<String, Options>,
    /// Whether a type that is not among them has none. A former version tells of the types with live records only.
    pub(crate) whole: bool,
}

pub(crate) async fn options(broker: &dyn Databroker) -> Result<Told, Error> {
    match broker.all_options().await {
        Ok(types) => Ok(Told { types, whole: true }),
        Err(Error::Unsupported(_)) => Ok(Told {
            types: of_live_types(broker).await?,
            whole: false,
        }),
        Err(error) => Err(error),
    }
}

async fn of_live_types(broker: &dyn Databroker) -> Result<BTreeMap<String, Options>, Error> {
    let mut all = BTreeMap::new();
    // A record may have no type; options need one.
    for record_type in broker.types().await?.into_iter().filter(|name| !name.is_empty()) {
        if let Some(options) = broker.options(&record_type).await? {
            all.insert(record_type, options);
        }
    }
    Ok(all)
}
