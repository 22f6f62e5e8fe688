//! Whose word an upstream takes for who asks: the token for a Kubernetes API server, the audience of a Google
//! identity token (spec policy.md 11.4, 11.5).

use std::path::PathBuf;

use super::super::Cx;
use crate::settings::{KubernetesToken, Secret};
use crate::spec::values::Values;

const INLINE: &str = "kubernetes_service_account_token";
const FILE: &str = "kubernetes_service_account_token_file";

/// Whether the upstream of a route is a Kubernetes API server.
pub(super) fn is_kubernetes(route: &Values) -> bool {
    route.some_text(INLINE).is_some() || route.some_text(FILE).is_some()
}

/// Both at once is an error elsewhere.
pub(super) fn kubernetes(route: &Values, cx: &mut Cx<'_>) -> Option<KubernetesToken> {
    if let Some(token) = route.some_text(INLINE) {
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "config: the token is empty, or holds characters that cannot be sent";
            let help = "write the token of the service account as it is, on one line";
            cx.sink
                .error(route.place(INLINE), route.key(INLINE), message, help);
        }
        return Some(KubernetesToken::Inline(Secret::new(token.as_bytes())));
    }
    let path = route.some_text(FILE)?;
    if path.contains("-----BEGIN") || path.starts_with("eyJ") {
        let message = "config: a token or key stands where the path of a file belongs";
        let help = format!("write the path of the file, or use `{INLINE}`");
        cx.sink.error(route.place(FILE), route.key(FILE), message, help);
    }
    let path = PathBuf::from(path);
    // Not read here: it may come later, and is read again and again. A change makes that sooner.
    cx.watched.push(path.clone());
    Some(KubernetesToken::File(path))
}

/// The host of the last destination.
pub(super) fn google_audience(route: &Values) -> Option<String> {
    if !route.on("enable_google_cloud_serverless_authentication") {
        return None;
    }
    let last = route.upstreams("to").last()?;
    Some(format!("https://{}", last.url.hostname()))
}
