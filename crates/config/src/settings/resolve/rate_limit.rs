//! `rate_limit`, global and of a route (spec config.md 20).

use std::time::Duration;

use super::Cx;
use crate::settings::{RateKey, RateLimit};
use crate::spec::values::Values;

const PERIOD: Duration = Duration::from_secs(1);

/// The bucket written on this level.
pub(super) fn resolve(values: &Values, cx: &mut Cx<'_>) -> Option<RateLimit> {
    let limit = values.object("rate_limit")?;
    let requests = count(limit, "requests", cx);
    if requests.is_none() && !limit.is_failed("requests") {
        let help = "write for instance `rate_limit: {requests: 100, per: 1m}`";
        cx.sink.error(
            values.place("rate_limit"),
            values.key("rate_limit"),
            "`requests` is missing",
            help,
        );
    }
    let per = limit.duration("per").unwrap_or(PERIOD);
    if per.is_zero() {
        let help = "write a period such as 1s or 1m; to limit nothing, remove `rate_limit`";
        cx.sink
            .error(limit.place("per"), limit.key("per"), "the period is zero", help);
    }
    let burst = count(limit, "burst", cx);
    let requests = requests?;
    Some(RateLimit {
        requests,
        per,
        burst: burst.unwrap_or(requests),
        key: match limit.choice("key") {
            Some("user") => RateKey::User,
            Some("route") => RateKey::Route,
            _ => RateKey::Client,
        },
    })
}

/// A number that must not be zero: a bucket that lets nothing through is a mistake, not a limit.
fn count(limit: &Values, name: &str, cx: &mut Cx<'_>) -> Option<u32> {
    let number = limit.int(name).and_then(|number| u32::try_from(number).ok())?;
    if number == 0 {
        let help = "at least 1; to limit nothing, remove `rate_limit`";
        cx.sink.error(
            limit.place(name),
            limit.key(name),
            "zero would let nothing through",
            help,
        );
    }
    Some(number)
}
