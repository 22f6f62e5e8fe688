//! Databrokers that pass calls on.

/// Inside an `impl Databroker`: every call, by way of the macro `$pass`, which is given `self` and the call with its
/// arguments, and makes the future that answers it. Whoever stands before another databroker leaves no call out this way.
///
/// ```
/// use std::sync::Arc;
///
/// use pomerium_api::databroker::Databroker;
///
/// struct Door(Arc<dyn Databroker>);
///
/// macro_rules! pass {
///     ($self:ident, $($call:tt)+) => { $self.0.$($call)+ };
/// }
///
/// impl Databroker for Door {
///     pomerium_api::forward_databroker!(pass);
/// }
/// ```
#[macro_export]
macro_rules! forward_databroker {
    ($pass:ident) => {
        fn versions(&self) -> $crate::databroker::Answer<'_, $crate::databroker::Versions> {
            $pass!(self, versions())
        }

        fn get<'a>(
            &'a self,
            record_type: &'a str,
            id: &'a str,
        ) -> $crate::databroker::Answer<'a, $crate::databroker::Record> {
            $pass!(self, get(record_type, id))
        }

        fn put(
            &self,
            records: Vec<$crate::databroker::Record>,
        ) -> $crate::databroker::Answer<'_, $crate::databroker::PutReply> {
            $pass!(self, put(records))
        }

        fn replace(
            &self,
            record: $crate::databroker::Record,
        ) -> $crate::databroker::Answer<'_, Option<$crate::databroker::Record>> {
            $pass!(self, replace(record))
        }

        fn sync_latest<'a>(
            &'a self,
            record_type: &'a str,
        ) -> $crate::databroker::Answer<'a, $crate::databroker::RecordStream<$crate::databroker::Latest>> {
            $pass!(self, sync_latest(record_type))
        }

        fn sync<'a>(
            &'a self,
            record_type: &'a str,
            from: $crate::databroker::Versions,
        ) -> $crate::databroker::Answer<'a, $crate::databroker::RecordStream<$crate::databroker::Record>> {
            $pass!(self, sync(record_type, from))
        }

        fn clear(&self) -> $crate::databroker::Answer<'_, $crate::databroker::Cleared> {
            $pass!(self, clear())
        }

        fn sync_until_now<'a>(
            &'a self,
            record_type: &'a str,
            from: $crate::databroker::Versions,
        ) -> $crate::databroker::Answer<'a, $crate::databroker::RecordStream<$crate::databroker::Record>> {
            $pass!(self, sync_until_now(record_type, from))
        }

        fn info(&self) -> $crate::databroker::Answer<'_, $crate::databroker::ServerInfo> {
            $pass!(self, info())
        }

        fn query(
            &self,
            query: $crate::databroker::Query,
        ) -> $crate::databroker::Answer<'_, $crate::databroker::Page> {
            $pass!(self, query(query))
        }

        fn patch(
            &self,
            records: Vec<$crate::databroker::Record>,
            mask: Vec<String>,
        ) -> $crate::databroker::Answer<'_, $crate::databroker::PutReply> {
            $pass!(self, patch(records, mask))
        }

        fn types(&self) -> $crate::databroker::Answer<'_, Vec<String>> {
            $pass!(self, types())
        }

        fn options<'a>(
            &'a self,
            record_type: &'a str,
        ) -> $crate::databroker::Answer<'a, Option<$crate::databroker::Options>> {
            $pass!(self, options(record_type))
        }

        fn all_options(
            &self,
        ) -> $crate::databroker::Answer<'_, ::std::collections::BTreeMap<String, $crate::databroker::Options>> {
            $pass!(self, all_options())
        }

        fn unreadable(&self) -> $crate::databroker::Answer<'_, Vec<$crate::databroker::RecordKey>> {
            $pass!(self, unreadable())
        }

        fn set_options(
            &self,
            record_type: String,
            options: $crate::databroker::Options,
        ) -> $crate::databroker::Answer<'_, ()> {
            $pass!(self, set_options(record_type, options))
        }

        fn lease(
            &self,
            request: $crate::databroker::LeaseRequest,
        ) -> $crate::databroker::Answer<'_, Option<String>> {
            $pass!(self, lease(request))
        }

        fn release_lease(&self, name: String, id: String) -> $crate::databroker::Answer<'_, ()> {
            $pass!(self, release_lease(name, id))
        }

        fn report(
            &self,
            services: Vec<$crate::databroker::Service>,
        ) -> $crate::databroker::Answer<'_, ::std::time::Duration> {
            $pass!(self, report(services))
        }

        fn services(
            &self,
            kinds: Vec<i32>,
        ) -> $crate::databroker::Answer<'_, Vec<$crate::databroker::Service>> {
            $pass!(self, services(kinds))
        }

        fn watch_services(
            &self,
            kinds: Vec<i32>,
        ) -> $crate::databroker::Answer<'_, $crate::databroker::RecordStream<Vec<$crate::databroker::Service>>> {
            $pass!(self, watch_services(kinds))
        }
    };
}
