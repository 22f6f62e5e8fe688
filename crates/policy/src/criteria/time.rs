//! Moments, days and hours (spec policy.md 21). Bounds are exclusive; the time is that of the request.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde_json::Value;

use super::read;
use crate::compile::CompileError;
use crate::ppl::Criterion;

/// The criterion `date`.
#[derive(Debug, Default)]
pub(crate) struct Dates {
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Dates {
    pub(super) fn read(criterion: &Criterion) -> Result<Self, CompileError> {
        read::no_sub_path(criterion)?;
        let keys = read::map(criterion, "a map such as `{after: 2026-01-31T08:00:00Z}`")?;
        let zone = keys
            .get("timezone")
            .map(|data| zone(criterion, data))
            .transpose()?;
        let mut dates = Self::default();
        let mut zone_used = false;
        for (key, data) in keys {
            let bound = match key.as_str() {
                "after" => &mut dates.after,
                "before" => &mut dates.before,
                "timezone" => continue,
                _ => {
                    return Err(read::unknown_key(
                        criterion,
                        key,
                        &["after", "before", "timezone"],
                    ));
                }
            };
            let text = read::string(criterion, key, data)?;
            let (moment, by_zone) = moment(text, zone.as_ref().unwrap_or(&TimeZone::UTC)).ok_or_else(|| {
                read::bad_value(
                    criterion,
                    key,
                    text,
                    "not a date: write `2026-01-31`, `2026-01-31T08:00:00` or `2026-01-31T08:00:00+01:00`",
                )
            })?;
            *bound = Some(moment);
            zone_used |= by_zone;
        }
        if dates.after.is_none() && dates.before.is_none() {
            return Err(read::incomplete(criterion, "`after`, `before` or both"));
        }
        if let (Some(_), false) = (&zone, zone_used) {
            let text = keys.get("timezone").and_then(Value::as_str).unwrap_or_default();
            let problem = "has no effect, because each date says its own zone (one without quotes is read as UTC): put the date in quotes, or leave the zone out";
            return Err(read::bad_value(criterion, "timezone", text, problem));
        }
        Ok(dates)
    }

    pub(super) fn hold(&self, now: Timestamp) -> bool {
        self.after.is_none_or(|after| now > after) && self.before.is_none_or(|before| now < before)
    }
}

/// Reads ISO 8601: a moment, or a date with or without a time in `zone`; and whether the zone was needed. Where a
/// clock is put forward the skipped time is read as if it had not been yet, where it is put back the first of two.
fn moment(text: &str, zone: &TimeZone) -> Option<(Timestamp, bool)> {
    // A zone in brackets would be left aside.
    if text.contains('[') {
        return None;
    }
    let time = text.split_once(['T', 't', ' ']).map(|(_, time)| time);
    if time.is_some_and(|time| time.contains(['Z', 'z', '+', '-'])) {
        return Some((text.parse().ok()?, false));
    }
    let civil: DateTime = match time {
        Some(_) => text.parse().ok()?,
        None => text.parse::<Date>().ok()?.to_datetime(Time::midnight()),
    };
    Some((zone.to_timestamp(civil).ok()?, true))
}

/// The criterion `day_of_week`.
#[derive(Debug)]
pub(crate) struct Days {
    /// One bit a day, Monday first.
    days: u8,
    zone: TimeZone,
}

const DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

impl Days {
    pub(super) fn read(criterion: &Criterion) -> Result<Self, CompileError> {
        read::no_sub_path(criterion)?;
        let (data, zone) = match &criterion.data {
            Value::Object(keys) => {
                if let Some(key) = keys.keys().find(|key| !matches!(key.as_str(), "is" | "timezone")) {
                    return Err(read::unknown_key(criterion, key, &["is", "timezone"]));
                }
                let data = keys
                    .get("is")
                    .ok_or_else(|| read::incomplete(criterion, "`is`, the days"))?;
                let zone = keys
                    .get("timezone")
                    .map(|data| zone(criterion, data))
                    .transpose()?;
                (data, zone.unwrap_or(TimeZone::UTC))
            }
            data => (data, TimeZone::UTC),
        };
        let Value::String(text) = data else {
            return Err(read::wrong_type(
                criterion,
                "",
                "days such as `mon-fri` or `sat,sun`",
                data,
            ));
        };
        let days = text
            .split(',')
            .try_fold(0, |days, item| Some(days | item_days(item.trim())?));
        let days = days.ok_or_else(|| {
            let problem =
                "not days: write `*`, names such as `mon,wed` or `Monday`, or ranges such as `mon-fri`";
            read::bad_value(criterion, "", text, problem)
        })?;
        Ok(Self { days, zone })
    }

    pub(super) fn hold(&self, now: Timestamp) -> bool {
        let today = self.zone.to_datetime(now).weekday();
        self.days & bit(index(today)) != 0
    }

    pub(super) fn today(&self, now: Timestamp) -> &'static str {
        DAYS[index(self.zone.to_datetime(now).weekday())]
    }
}

fn index(day: Weekday) -> usize {
    usize::from(day.to_monday_zero_offset().unsigned_abs())
}

fn bit(day: usize) -> u8 {
    1 << day
}

/// The days of one item of the list; a range may go over the end of the week.
fn item_days(item: &str) -> Option<u8> {
    if item == "*" {
        return Some(0x7f);
    }
    let Some((first, last)) = item.split_once('-') else {
        return Some(bit(day(item)?));
    };
    let (mut at, last) = (day(first.trim())?, day(last.trim())?);
    let mut days = bit(at);
    while at != last {
        at = (at + 1) % 7;
        days |= bit(at);
    }
    Some(days)
}

fn day(name: &str) -> Option<usize> {
    DAYS.iter()
        .position(|day| name.eq_ignore_ascii_case(day) || name.eq_ignore_ascii_case(&day[..3]))
}

/// The criterion `time_of_day`: on one day, so `after` a later time than `before` never holds.
#[derive(Debug)]
pub(crate) struct Hours {
    after: Option<Time>,
    before: Option<Time>,
    zone: TimeZone,
}

impl Hours {
    pub(super) fn read(criterion: &Criterion) -> Result<Self, CompileError> {
        read::no_sub_path(criterion)?;
        let keys = read::map(
            criterion,
            "a map such as `{timezone: Europe/Paris, after: \"8:00\"}`",
        )?;
        let (mut after, mut before, mut in_zone) = (None, None, None);
        for (key, data) in keys {
            let time = || {
                let text = read::string(criterion, key, data)?;
                time(text).ok_or_else(|| {
                    let problem = "not a time of a day: write `8:30 AM`, `5PM`, `17:30` or `17:30:15`";
                    read::bad_value(criterion, key, text, problem)
                })
            };
            match key.as_str() {
                "after" => after = Some(time()?),
                "before" => before = Some(time()?),
                "timezone" => in_zone = Some(zone(criterion, data)?),
                _ => {
                    return Err(read::unknown_key(
                        criterion,
                        key,
                        &["timezone", "after", "before"],
                    ));
                }
            }
        }
        if after.is_none() && before.is_none() {
            return Err(read::incomplete(criterion, "`after`, `before` or both"));
        }
        let zone = in_zone
            .ok_or_else(|| read::incomplete(criterion, "`timezone`, such as `Europe/Paris` or `UTC`"))?;
        Ok(Self { after, before, zone })
    }

    pub(super) fn hold(&self, now: Timestamp) -> bool {
        let time = self.local(now);
        self.after.is_none_or(|after| time > after) && self.before.is_none_or(|before| time < before)
    }

    pub(super) fn local(&self, now: Timestamp) -> Time {
        self.zone.to_datetime(now).time()
    }
}

/// Reads `3:04 PM`, `3 PM` (blank and case do not matter), `15:04`, `15:04:05` and `15:04:05.999999999`.
fn time(text: &str) -> Option<Time> {
    let split = text.len().checked_sub(2)?;
    let (clock, half) = text.split_at_checked(split)?;
    let afternoon = match half {
        half if half.eq_ignore_ascii_case("am") => false,
        half if half.eq_ignore_ascii_case("pm") => true,
        _ => return full_time(text),
    };
    let clock = clock.trim_end();
    let (hour, minute) = match clock.split_once(':') {
        Some((hour, minute)) => (hour, number(minute, 2..=2)?),
        None => (clock, 0),
    };
    let hour = number(hour, 1..=2).filter(|hour| (1..=12).contains(hour))?;
    Time::new(hour % 12 + if afternoon { 12 } else { 0 }, minute, 0, 0).ok()
}

fn full_time(text: &str) -> Option<Time> {
    let (hour, rest) = text.split_once(':')?;
    let (minute, second) = match rest.split_once(':') {
        Some((minute, second)) => (minute, Some(second)),
        None => (rest, None),
    };
    let (second, nanos) = match second.map(|second| second.split_once('.').unwrap_or((second, "0"))) {
        None => (0, 0),
        Some((second, fraction)) => {
            let digits =
                (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
            let nanos = digits.then(|| format!("{fraction:0<9}"))?.parse().ok()?;
            (number(second, 2..=2)?, nanos)
        }
    };
    Time::new(number(hour, 1..=2)?, number(minute, 2..=2)?, second, nanos).ok()
}

/// A number with so many digits.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i8> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// A zone of the IANA database: the system's, because it is kept up to date, else the one that is built in.
fn zone(criterion: &Criterion, data: &Value) -> Result<TimeZone, CompileError> {
    let name = read::string(criterion, "timezone", data)?;
    let bundled = TimeZoneDatabase::bundled();
    // Names that only some system has, such as `localtime`, mean something else on each.
    let known = bundled.get(name);
    known
        .map(|zone| jiff::tz::db().get(name).unwrap_or(zone))
        .map_err(|_| {
            let problem =
                "not the name of a time zone: write one such as `Europe/Paris`, `America/New_York` or `UTC`";
            read::bad_value(criterion, "timezone", name, problem)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_seven_forms() {
        let of = |text: &str| time(text).map(|time| time.to_string());
        for (text, expected) in [
            ("3:04 PM", "15:04:00"),
            ("3:04PM", "15:04:00"),
            ("3 PM", "15:00:00"),
            ("3pm", "15:00:00"),
            ("12 AM", "00:00:00"),
            ("12:30 PM", "12:30:00"),
            ("15:04:05.25", "15:04:05.25"),
            ("2:20:00", "02:20:00"),
            ("15:04", "15:04:00"),
            ("0:00", "00:00:00"),
        ] {
            assert_eq!(of(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "3",
            "15",
            "13 PM",
            "0 AM",
            "3:4 PM",
            "24:00",
            "12:60",
            "12:00:60",
            "1:2:3",
            "12:00:00.",
            "15:04 PM",
            "+3 PM",
            "3:04:05 PM",
            "é",
            "12:00:00.1234567891",
            " 3 PM",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn days_are_lists_and_ranges() {
        let of = |text: &str| {
            text.split(',')
                .try_fold(0, |days, item| Some(days | item_days(item.trim())?))
        };
        assert_eq!(of("*"), Some(0b111_1111));
        assert_eq!(of("mon,WED"), Some(0b000_0101));
        assert_eq!(of("tuesday - Fri"), Some(0b001_1110));
        assert_eq!(of("fri-mon"), Some(0b111_0001));
        assert_eq!(of("sat,sun-sun"), Some(0b110_0000));
        for text in ["", "mon,", "tues", "mon-", "mon-tue-wed", "1", "mo"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn dates_say_their_zone_or_take_the_one_given() {
        let paris = TimeZoneDatabase::bundled().get("Europe/Paris").unwrap();
        let of = |text: &str| moment(text, &paris).map(|(moment, by_zone)| (moment.to_string(), by_zone));
        let is = |text: &str, expected: &str, by_zone: bool| {
            assert_eq!(of(text), Some((expected.to_owned(), by_zone)), "{text}");
        };
        is("2026-01-31", "2026-01-30T23:00:00Z", true);
        is("2026-01-31T08:00:00", "2026-01-31T07:00:00Z", true);
        is("2026-01-31 08:00", "2026-01-31T07:00:00Z", true);
        is("2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z", false);
        is("2026-01-31T08:00:00-05:00", "2026-01-31T13:00:00Z", false);
        // Put forward at 2:00 on 2026-03-29, back at 3:00 on 2026-10-25.
        is("2026-03-29T02:30:00", "2026-03-29T01:30:00Z", true);
        is("2026-10-25T02:30:00", "2026-10-25T00:30:00Z", true);
        for text in [
            "",
            "tomorrow",
            "2026-13-01",
            "2026-01-31T25:00:00",
            "2026-01-31T08:00:00[Asia/Tokyo]",
            "8:00",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
