//! Where addresses are, from a file in the MaxMind format (`geoip_database`).
//!
//! Policies see it as the record type `pomerium.io/GeoIP`. The whole file is read into memory: a file that is replaced
//! in place under a memory map would be undefined behaviour. City, country and ASN databases are understood.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use maxminddb::{MaxMindDbError, Reader};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::{Map, Number, Value};

/// Largest file, bytes.
const LARGEST: u64 = 512 << 20;
/// How many places are kept as JSON. Many networks share one place.
const KEPT: usize = 4096;

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
#[error("geoip_database: {path}: {why}")]
pub struct GeoIpError {
    path: PathBuf,
    why: String,
}

/// Tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    size: u64,
    modified: Option<SystemTime>,
}

type Places = Cache<usize, Arc<Value>, quick_cache::UnitWeighter, foldhash::fast::RandomState>;

/// A database in memory.
pub struct GeoIp {
    stamp: Stamp,
    reader: Reader<Vec<u8>>,
    places: Places,
    broken: AtomicBool,
}

impl GeoIp {
    /// Reads the file at `path`; `previous` is taken again when the file is still the same.
    ///
    /// Errors name the file and what is wrong with it.
    pub fn open(path: &Path, previous: Option<&Arc<Self>>) -> Result<Arc<Self>, GeoIpError> {
        let wrong = |why: String| GeoIpError {
            path: path.to_owned(),
            why,
        };
        let mut file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let about = file.metadata().map_err(|error| wrong(error.to_string()))?;
        let stamp = Stamp {
            path: path.to_owned(),
            size: about.len(),
            modified: about.modified().ok(),
        };
        if let Some(same) = previous.filter(|previous| previous.stamp == stamp && !previous.is_broken()) {
            return Ok(Arc::clone(same));
        }
        let mut bytes = Vec::new();
        file.by_ref()
            .take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| wrong(error.to_string()))?;
        if bytes.len() as u64 > LARGEST {
            return Err(wrong(format!("larger than {} MiB", LARGEST >> 20)));
        }
        let reader = Reader::from_source(bytes).map_err(|error| {
            wrong(format!(
                "not a database in the MaxMind format ({error}); name an .mmdb file with cities, countries or ASNs"
            ))
        })?;
        let about = reader.metadata();
        tracing::info!(
            path = %path.display(),
            database_type = about.database_type,
            build_epoch = about.build_epoch,
            "geoip_database: read"
        );
        Ok(Arc::new(Self {
            stamp,
            reader,
            places: Cache::with(
                KEPT,
                KEPT as u64,
                quick_cache::UnitWeighter,
                foldhash::fast::RandomState::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            broken: AtomicBool::new(false),
        }))
    }

    /// What is known about an address: `country`, `state`, `city`, `zip`, `timezone`, `asn`, `organization`, each only
    /// when it is known. None for an address that the database does not know.
    pub fn find(&self, address: IpAddr) -> Option<Arc<Value>> {
        match self.look_up(address.to_canonical()) {
            Ok(found) => found,
            // A database of IPv4 knows nothing about IPv6.
            Err(MaxMindDbError::InvalidInput { .. }) => None,
            Err(error) => {
                if !self.broken.swap(true, Ordering::AcqRel) {
                    let path = self.stamp.path.display();
                    tracing::error!(
                        %error, %path,
                        "geoip_database: an entry is damaged, or not in the form of a GeoIP2 or GeoLite2 database; requests that depend \
                         on one are refused until the file is replaced"
                    );
                }
                None
            }
        }
    }

    /// Whether the database turned out to be damaged: what it does not know means nothing any more.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    fn look_up(&self, address: IpAddr) -> Result<Option<Arc<Value>>, MaxMindDbError> {
        let found = self.reader.lookup(address)?;
        let Some(offset) = found.offset() else {
            return Ok(None);
        };
        if let Some(known) = self.places.get(&offset) {
            return Ok(Some(known));
        }
        let place: Option<Place> = found.decode()?;
        let json = place.map(|place| Arc::new(place.json()));
        if let Some(json) = &json {
            self.places.insert(offset, Arc::clone(json));
        }
        Ok(json)
    }
}

impl std::fmt::Debug for GeoIp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeoIp")
            .field("path", &self.stamp.path)
            .finish_non_exhaustive()
    }
}

/// The parts of an entry that are used.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Place {
    country: Named,
    subdivisions: Vec<Named>,
    city: Named,
    postal: Postal,
    location: Location,
    /// Writers of such files differ in the width of numbers.
    autonomous_system_number: Option<Number>,
    autonomous_system_organization: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    iso_code: Option<String>,
    names: Names,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Names {
    en: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Postal {
    code: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Location {
    time_zone: Option<String>,
}

impl Place {
    /// What is not known stays away: the country a network is registered in, for instance, is not where it is.
    fn json(self) -> Value {
        let state = self.subdivisions.into_iter().next().unwrap_or_default();
        let texts = [
            ("country", self.country.iso_code),
            ("state", state.names.en.or(state.iso_code)),
            ("city", self.city.names.en),
            ("zip", self.postal.code),
            ("timezone", self.location.time_zone),
            ("organization", self.autonomous_system_organization),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?))));
        let mut fields: Map<String, Value> = texts.collect();
        if let Some(number) = self.autonomous_system_number {
            fields.insert("asn".to_owned(), Value::Number(number));
        }
        Value::Object(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_database_is_refused() {
        let dir = std::env::temp_dir().join(format!("geoip-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("x.mmdb");
        let error = |path: &Path| GeoIp::open(path, None).unwrap_err().to_string();
        assert!(error(&path).starts_with("geoip_database: "), "{}", error(&path));
        for garbage in [&b""[..], b"PK\x03\x04", b"\xab\xcd\xefMaxMind.com", &[0xff; 4096]] {
            std::fs::write(&path, garbage).unwrap();
            assert!(error(&path).contains("MaxMind format"), "{}", error(&path));
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn fields_that_are_not_known_are_absent() {
        let place: Place = serde_json::from_value(serde_json::json!({
            "country": {"iso_code": "DE"},
            "registered_country": {"iso_code": "FR"},
            "subdivisions": [{"iso_code": "BE", "names": {"en": "Land Berlin", "de": "Berlin"}}],
            "traits": {"x": 1},
        }))
        .unwrap();
        assert_eq!(
            place.json(),
            serde_json::json!({"country": "DE", "state": "Land Berlin"})
        );
        let asn: Place = serde_json::from_value(serde_json::json!({
            "autonomous_system_number": 64500, "autonomous_system_organization": "Example",
        }))
        .unwrap();
        assert_eq!(
            asn.json(),
            serde_json::json!({"asn": 64500, "organization": "Example"})
        );
    }
}
