//! What a node that leads asks the others: whether one of them has taken its place.
//!
//! A follower passes the question on to whom it follows, so that the answer is always that of one who leads.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use pomerium_api::databroker::ServerInfo;

use super::node::{Leader, Node};
use crate::store::{Counters, Store};

/// How often the others are asked.
const ASK: Duration = Duration::from_secs(1);
/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the others say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nobody else leads, as far as can be seen.
    Alone,
    /// That one leads as well, over other records of the same term.
    Rival(usize),
    /// That one has taken this one's place, in this term.
    Later(usize, u64),
}

/// Asks all of them at a time.
pub(super) async fn ask(own: &Counters, others: &[Leader]) -> Finding {
    let answers = join_all(others.iter().map(|other| async {
        tokio::time::timeout(PATIENCE, other.broker.info())
            .await
            .ok()?
            .ok()
    }))
    .await;
    judge(own, &answers)
}

fn judge(own: &Counters, answers: &[Option<ServerInfo>]) -> Finding {
    let known = || {
        answers
            .iter()
            .enumerate()
            .filter_map(|(number, answer)| Some((number, (*answer)?)))
    };
    let later = known()
        .filter(|(_, info)| info.term > own.term)
        .max_by_key(|(_, info)| info.term);
    if let Some((number, info)) = later {
        return Finding::Later(number, info.term);
    }
    let rival = known().find(|(_, info)| info.term == own.term && info.server_version != own.server_version);
    rival.map_or(Finding::Alone, |(number, _)| Finding::Rival(number))
}

/// Asks until the node has given way, or is gone.
pub(super) async fn watch<S: Store>(node: Weak<Node<S>>, others: Arc<[Leader]>) {
    loop {
        tokio::time::sleep(ASK).await;
        let Some(node) = node.upgrade() else { return };
        if node.look_around(&others).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Standing;

    fn info(server_version: u64, term: u64) -> Option<ServerInfo> {
        Some(ServerInfo {
            server_version,
            earliest: 0,
            latest: 7,
            term,
        })
    }

    #[test]
    fn the_latest_term_counts_and_silence_is_no_answer() {
        let own = Counters {
            server_version: 1,
            latest: 9,
            trimmed: 0,
            standing: Standing::Own,
            term: 3,
        };
        for (answers, finding) in [
            (vec![], Finding::Alone),
            (vec![None, info(1, 3)], Finding::Alone),
            (vec![info(2, 2)], Finding::Alone),
            (vec![info(2, 3)], Finding::Rival(0)),
            (vec![info(2, 3), info(5, 4)], Finding::Later(1, 4)),
            (vec![info(4, 4), None, info(6, 6)], Finding::Later(2, 6)),
        ] {
            assert_eq!(judge(&own, &answers), finding, "{answers:?}");
        }
    }
}
