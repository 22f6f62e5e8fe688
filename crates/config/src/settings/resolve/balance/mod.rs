//! How several endpoints of a route are used: choice, health, limits (spec config.md 9.8 G, proxy.md 6.4 to 6.7).

use super::Cx;
use crate::diagnostic::Stage;
use crate::settings::{Balance, CircuitBreakers, LoadBalancing, PanicThreshold};
use crate::spec::values::Values;

mod health;
mod message;
mod outlier;
mod range;

/// Of a route; `global` are the limits it inherits.
pub(super) fn resolve(route: &Values, global: CircuitBreakers, cx: &mut Cx<'_>) -> Balance {
    Balance {
        policy: match route.choice("load_balancing_policy") {
            Some("maglev") => LoadBalancing::Maglev,
            Some("random") => LoadBalancing::Random,
            Some("ring_hash") => LoadBalancing::RingHash,
            Some("least_request") => LoadBalancing::LeastRequest,
            _ => LoadBalancing::RoundRobin,
        },
        panic_threshold: panic_threshold(route, cx),
        health_checks: health::resolve(route, cx),
        outlier_detection: outlier::resolve(route, cx),
        breakers: breakers(route, global),
    }
}

/// The limits of one level over those it inherits, field by field.
pub(super) fn breakers(values: &Values, inherited: CircuitBreakers) -> CircuitBreakers {
    let own = values.object("circuit_breaker_thresholds");
    let pick = |name: &str, inherited: u32| {
        own.and_then(|own| own.int(name))
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(inherited)
    };
    CircuitBreakers {
        max_connections: pick("max_connections", inherited.max_connections),
        max_pending_requests: pick("max_pending_requests", inherited.max_pending_requests),
        max_requests: pick("max_requests", inherited.max_requests),
        max_retries: pick("max_retries", inherited.max_retries),
    }
}

fn panic_threshold(route: &Values, cx: &mut Cx<'_>) -> PanicThreshold {
    let name = "healthy_panic_threshold";
    let Some(given) = route.int(name) else {
        return PanicThreshold::default();
    };
    match u8::try_from(given).ok().filter(|percent| *percent <= 100) {
        Some(percent) => PanicThreshold(percent),
        None => {
            let message = format!("{given} is no percentage");
            let (place, key) = (route.place(name), route.key(name));
            cx.sink
                .error_at(Stage::DataPlane, place, key, message, "a number from 0 to 100");
            PanicThreshold::default()
        }
    }
}
