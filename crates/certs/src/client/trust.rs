//! Judging a chain: authorities and rules together.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::UnixTime;
use sha2::{Digest as _, Sha256};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, VerifiedPath};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::anchors::Anchor;
use super::names::Names;
use super::{Anchors, ClientChain, Flaw, NameKind, RevocationLists, TrustError, Verdict};

/// Verdicts a trust remembers.
const REMEMBERED: usize = 4096;

/// What a certificate has to be, whoever has issued it.
#[derive(Debug)]
pub struct Rules {
    lists: RevocationLists,
    names: Names,
    max_depth: u32,
    list_dates: bool,
    /// Over everything they were made from.
    id: [u8; 32],
}

impl Rules {
    /// `max_depth` counts the certificates of a chain without the anchor; 0 is unlimited. With `list_dates` a
    /// revocation list that is not current invalidates everything its authority has issued.
    ///
    /// # Errors
    /// A name pattern that does not compile.
    pub fn new(
        lists: RevocationLists,
        names: &[(NameKind, String)],
        max_depth: u32,
        list_dates: bool,
    ) -> Result<Self, TrustError> {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        add(&max_depth.to_be_bytes());
        add(&[u8::from(list_dates)]);
        for (kind, pattern) in names {
            add(&[*kind as u8]);
            add(pattern.as_bytes());
        }
        lists.bytes().for_each(&mut add);
        Ok(Self {
            names: Names::compile(names)?,
            lists,
            max_depth,
            list_dates,
            id: hash.finalize().into(),
        })
    }

    /// The revocation lists among them.
    #[must_use]
    pub fn lists(&self) -> &RevocationLists {
        &self.lists
    }
}

/// The authorities and rules that client certificates are judged by. Judging the same chain again costs a look-up.
pub struct ClientTrust {
    anchors: Anchors,
    rules: Arc<Rules>,
    id: [u8; 32],
    /// Moments at which an authority or a list begins or ends, ascending.
    boundaries: Vec<i64>,
    /// Under the hash of the whole chain. A new trust has a memory of its own.
    remembered: Cache<[u8; 32], Remembered>,
}

/// A verdict and the time in which it cannot change: from, until (exclusive), unix seconds.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    verdict: Verdict,
    from: i64,
    until: i64,
}

impl ClientTrust {
    /// Puts them together.
    #[must_use]
    pub fn new(anchors: Anchors, rules: Arc<Rules>) -> Self {
        let mut hash = Sha256::new();
        hash.update(rules.id);
        anchors.ids().for_each(|id| hash.update(id));
        let mut boundaries: Vec<i64> = anchors
            .iter()
            .flat_map(|anchor| [anchor.not_before, anchor.not_after.saturating_add(1)])
            .chain(rules.lists.boundaries())
            .collect();
        boundaries.sort_unstable();
        Self {
            anchors,
            rules,
            id: hash.finalize().into(),
            boundaries,
            remembered: Cache::new(REMEMBERED),
        }
    }

    /// The same only for the same authorities and rules.
    #[must_use]
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// The authorities.
    #[must_use]
    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Judges `chain` at `now` (unix seconds).
    #[must_use]
    pub fn verify(&self, chain: &ClientChain, now: i64) -> Verdict {
        if let Some(known) = self.remembered.get(chain.id())
            && (known.from..known.until).contains(&now)
        {
            return known.verdict;
        }
        let verdict = match self.judge(chain, now) {
            Ok(()) => Verdict::Valid,
            Err(flaw) => Verdict::Invalid(flaw),
        };
        let (from, until) = self.steady(chain, now);
        self.remembered
            .insert(*chain.id(), Remembered { verdict, from, until });
        verdict
    }

    /// The time around `now` in which nothing that a verdict depends on begins or ends.
    fn steady(&self, chain: &ClientChain, now: i64) -> (i64, i64) {
        let around = |moments: &[i64]| {
            let next = moments.partition_point(|moment| *moment <= now);
            let before = next.checked_sub(1).map_or(i64::MIN, |at| moments[at]);
            (before, moments.get(next).copied().unwrap_or(i64::MAX))
        };
        let (ours, theirs) = (around(&self.boundaries), around(chain.boundaries()));
        (ours.0.max(theirs.0), ours.1.min(theirs.1))
    }

    fn judge(&self, chain: &ClientChain, now: i64) -> Result<(), Flaw> {
        let (_, leaf) = X509Certificate::from_der(chain.leaf()).map_err(|_| Flaw::Unreadable)?;
        match self.anchors.get(chain.leaf()) {
            Some(anchor) => its_own_authority(&leaf, anchor, now)?,
            None => self.judge_path(chain, &leaf, now)?,
        }
        if self.rules.names.accept(&leaf) {
            Ok(())
        } else {
            Err(Flaw::Name)
        }
    }

    fn judge_path(&self, chain: &ClientChain, leaf: &X509Certificate<'_>, now: i64) -> Result<(), Flaw> {
        let end_entity = EndEntityCert::try_from(chain.leaf()).map_err(|error| Flaw::of(&error))?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
        // A path that we refuse is no error of path building: it tries the next one, and says in the end that there
        // is none. What stood in the way is kept here.
        let refused = Cell::new(None);
        let accept = |path: &VerifiedPath<'_>| {
            self.accept_path(path, leaf, now).map_err(|flaw| {
                refused.set(Some(flaw));
                webpki::Error::UnknownIssuer
            })
        };
        end_entity
            .verify_for_usage(
                aws_lc_rs::default_provider()
                    .signature_verification_algorithms
                    .all,
                &self.anchors.trusted,
                chain.intermediates(),
                time,
                ForClients,
                None,
                Some(&accept),
            )
            .map(|_| ())
            .map_err(|error| refused.get().unwrap_or_else(|| Flaw::of(&error)))
    }

    /// A path whose signatures, dates and constraints are right: the rest.
    fn accept_path(&self, path: &VerifiedPath<'_>, leaf: &X509Certificate<'_>, now: i64) -> Result<(), Flaw> {
        // Path building takes an authority as eternal.
        in_time(
            self.anchors.found(path.anchor()).ok_or(Flaw::UnknownAuthority)?,
            now,
        )?;
        let depth = 1 + path.intermediate_certificates().count();
        if self.rules.max_depth != 0 && depth > self.rules.max_depth as usize {
            return Err(Flaw::TooDeep);
        }
        let mut above = path.intermediate_certificates();
        if !above.all(|issuer| may_issue(&issuer.der())) {
            return Err(Flaw::NotAnIssuer);
        }
        let dates = self.rules.list_dates.then_some(now);
        self.rules.lists.judge(leaf, &path.issuer_spki(), dates)
    }
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTrust")
            .field("anchors", &self.anchors)
            .field("id", &hex::encode(self.id))
            .finish_non_exhaustive()
    }
}

/// A client certificate that stands in the bundle itself needs no issuer.
fn its_own_authority(leaf: &X509Certificate<'_>, anchor: &Anchor, now: i64) -> Result<(), Flaw> {
    in_time(anchor, now)?;
    match leaf.extended_key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.client_auth || usage.value.any => Ok(()),
        Ok(Some(_)) => Err(Flaw::Purpose),
        Err(_) => Err(Flaw::Unreadable),
    }
}

/// Whether the key usage, where there is one, lets it sign certificates (RFC 5280 section 6.1.4 n); path building does not
/// look at that.
fn may_issue(issuer: &[u8]) -> bool {
    let Ok((_, issuer)) = X509Certificate::from_der(issuer) else {
        return false;
    };
    match issuer.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    }
}

fn in_time(anchor: &Anchor, now: i64) -> Result<(), Flaw> {
    if now < anchor.not_before {
        Err(Flaw::NotYetValid)
    } else if now > anchor.not_after {
        Err(Flaw::Expired)
    } else {
        Ok(())
    }
}

/// clientAuth, anyExtendedKeyUsage, or a certificate that names no purpose.
struct ForClients;

impl ExtendedKeyUsageValidator for ForClients {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        const CLIENT_AUTH: KeyPurposeId<'static> =
            KeyPurposeId::new(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02]);
        const ANY: KeyPurposeId<'static> = KeyPurposeId::new(&[0x55, 0x1d, 0x25, 0x00]);
        let mut none = true;
        for purpose in purposes {
            none = false;
            let purpose = purpose?;
            if purpose == CLIENT_AUTH || purpose == ANY {
                return Ok(());
            }
        }
        if none {
            Ok(())
        } else {
            Err(webpki::Error::EmptyEkuExtension)
        }
    }
}
