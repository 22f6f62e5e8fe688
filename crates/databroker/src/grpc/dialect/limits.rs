//! How long a caller is willing to wait: `Connect-Timeout-Ms` and `grpc-timeout`.

use std::time::Duration;

use http::HeaderMap;
use tonic::Status;

const CONNECT: &str = "connect-timeout-ms";
const GRPC: &str = "grpc-timeout";

/// The time a request gives, if it says so.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let read = |name: &str| {
        let value = headers.get(name)?;
        Some(value.to_str().unwrap_or_default())
    };
    if let Some(text) = read(CONNECT) {
        return millis(text).map(Some).ok_or_else(|| {
            Status::invalid_argument("Connect-Timeout-Ms must be a number of at most 10 digits")
        });
    }
    let Some(text) = read(GRPC) else { return Ok(None) };
    units(text)
        .map(Some)
        .ok_or_else(|| Status::invalid_argument("grpc-timeout must be at most 8 digits and a unit"))
}

/// What comes of `work`, unless its time is over first.
pub(super) async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let over = || Err(Status::deadline_exceeded("the time of the caller is over"));
    match limit {
        None => work.await,
        // Work that need not wait would be done before anybody looked at the clock.
        Some(limit) if limit.is_zero() => over(),
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| over()),
    }
}

fn digits(text: &str, most: usize) -> Option<u64> {
    let good = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

fn millis(text: &str) -> Option<Duration> {
    digits(text, 10).map(Duration::from_millis)
}

fn units(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = digits(number, 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_their_protocols_write_them() {
        assert_eq!(millis("1500"), Some(Duration::from_millis(1500)));
        assert_eq!(units("2S"), Some(Duration::from_secs(2)));
        assert_eq!(units("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "-1", "1.5", "12345678901", "0x1", " 1"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
        for bad in ["", "S", "1", "1s", "123456789S", "1é"] {
            assert_eq!(units(bad), None, "{bad}");
        }
    }
}
