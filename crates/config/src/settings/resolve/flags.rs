//! `runtime_flags`: given ones over the defaults.

use super::Cx;
use crate::diagnostic::Sort;
use crate::settings::RuntimeFlags;
use crate::spec::keys::{self, FLAGS};
use crate::spec::values::Values;

/// The value of a flag.
pub(crate) fn value(values: &Values, name: &str) -> bool {
    let given = values
        .flags("runtime_flags")
        .iter()
        .rev()
        .find(|(flag, ..)| flag == name);
    given.map_or_else(
        || {
            FLAGS
                .iter()
                .find(|flag| flag.name == name)
                .is_some_and(|flag| flag.default)
        },
        |(_, value, _)| *value,
    )
}

pub(super) fn resolve(values: &Values, cx: &mut Cx<'_>) -> RuntimeFlags {
    let names: Vec<_> = FLAGS.iter().map(|flag| flag.name).collect();
    for (name, _, place) in values.flags("runtime_flags") {
        if !names.contains(&name.as_str()) {
            let help = keys::nearest(name, &names)
                .map_or_else(|| "remove it".into(), |near| format!("did you mean `{near}`?"));
            cx.sink.warn(
                *place,
                format!("runtime_flags.{name}"),
                "unknown runtime flag: it is ignored",
                help,
            );
            cx.sink.last_warning_is(Sort::UnknownFlag);
        }
    }
    let flag = |name| value(values, name);
    RuntimeFlags {
        add_extra_metrics_labels: flag("add_extra_metrics_labels"),
        allow_any_sign_out_redirect_uri: flag("allow_any_sign_out_redirect_uri"),
        config_hot_reload: flag("config_hot_reload"),
        match_any_incoming_port: flag("match_any_incoming_port"),
        pomerium_jwt_endpoint: flag("pomerium_jwt_endpoint"),
        routes_portal: flag("routes_portal"),
        refresh_session_at_id_token_expiration: flag("refresh_session_at_id_token_expiration"),
    }
}
