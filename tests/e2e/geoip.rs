//! Where clients are, by a database in the MaxMind format that another program made.

use std::path::Path;

use anyhow::{Result, ensure};
use pomerium_api::records::{GEOIP, struct_record};
use pomerium_testing::tools;
use pomerium_tests::inside::Inside;
use serde_json::{Value, json};

async fn write(path: &Path, networks: &Value) -> Result<()> {
    // Beside it first: whoever watches sees a whole file.
    let beside = path.with_extension("new");
    let status = tools::python("mmdb.py")?
        .arg(&beside)
        .arg(networks.to_string())
        .status()
        .await?;
    ensure!(status.success(), "mmdb.py: {status}");
    Ok(std::fs::rename(beside, path)?)
}

fn country(code: &str) -> Value {
    json!({
        "country": { "iso_code": code, "names": { "en": "Somewhere" } },
        "subdivisions": [{ "iso_code": "BE", "names": { "en": "Land Berlin" } }],
        "city": { "names": { "en": "Berlin", "de": "Berlin" } },
        "postal": { "code": "10115" },
        "location": { "time_zone": "Europe/Berlin", "latitude": 52.5 },
    })
}

fn allows(field: &str, value: &Value) -> Value {
    json!([{ "allow": { "and": [{ "record": { "type": GEOIP, "field": field, "is": value } }] } }])
}

async fn inside(file: &Path) -> Result<Inside> {
    let routes = [
        ("country", allows("country", &json!("DE"))),
        ("state", allows("state", &json!("Land Berlin"))),
        ("city", allows("city", &json!("Berlin"))),
        ("zip", allows("zip", &json!("10115"))),
        ("zone", allows("timezone", &json!("Europe/Berlin"))),
        ("asn", allows("asn", &json!(64500))),
    ];
    Inside::start(
        &routes,
        json!({ "geoip_database": file, "trusted_proxies": ["127.0.0.0/8"] }),
    )
    .await
}

async fn from(inside: &Inside, name: &str, address: &str) -> Result<u16> {
    let headers = [("X-Forwarded-For", address)];
    Ok(inside.ask(name, None, &headers).await?.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_looks_at_where_the_client_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("city.mmdb");
    let known = json!({
        "192.0.2.0/24": country("DE"),
        "198.51.100.0/24": country("FR"),
        "2001:db8::/32": country("DE"),
        "203.0.113.0/24": { "autonomous_system_number": 64500, "autonomous_system_organization": "Example" },
    });
    write(&file, &known).await?;
    let inside = inside(&file).await?;
    for (name, address, status) in [
        ("country", "192.0.2.1", 200),
        ("country", "::ffff:192.0.2.1", 200),
        ("country", "2001:db8::7", 200),
        ("country", "198.51.100.9", 403),
        ("country", "203.0.113.1", 403),
        ("country", "8.8.8.8", 403),
        ("state", "192.0.2.1", 200),
        ("city", "192.0.2.1", 200),
        ("zip", "192.0.2.1", 200),
        ("zone", "192.0.2.1", 200),
        ("asn", "203.0.113.1", 200),
        ("asn", "192.0.2.1", 403),
    ] {
        assert_eq!(
            from(&inside, name, address).await?,
            status,
            "{name} from {address}"
        );
    }

    // Records of the databroker win over the file.
    let moved = json!({ "$index": { "cidr": "192.0.2.128/25" }, "id": "moved", "country": "FR" });
    inside.put(vec![struct_record(GEOIP, "moved", &moved)]).await?;
    assert_eq!(
        (
            from(&inside, "country", "192.0.2.1").await?,
            from(&inside, "country", "192.0.2.200").await?
        ),
        (200, 403)
    );

    // Garbage leaves the old one in force, a new file counts.
    std::fs::write(&file, b"no database")?;
    inside.server.reload();
    assert_eq!(from(&inside, "country", "192.0.2.1").await?, 200);
    write(&file, &json!({ "198.51.100.0/24": country("DE") })).await?;
    inside.server.reload();
    assert_eq!(
        (
            from(&inside, "country", "192.0.2.1").await?,
            from(&inside, "country", "198.51.100.9").await?
        ),
        (403, 200)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_database_stops_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("city.mmdb");
    for content in [None, Some("no database")] {
        if let Some(content) = content {
            std::fs::write(&file, content)?;
        }
        let error = match inside(&file).await {
            Err(error) => format!("{error:#}"),
            Ok(_) => anyhow::bail!("it started with {content:?}"),
        };
        assert!(
            error.contains("geoip_database") && error.contains("city.mmdb"),
            "{error}"
        );
    }
    Ok(())
}
