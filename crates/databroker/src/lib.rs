//! The databroker: records with versions and sync over memory and file stores.
