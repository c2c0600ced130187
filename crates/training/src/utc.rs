//! Dates of the Gregorian calendar in UTC.
use std::time::{SystemTime, UNIX_EPOCH};

/// A point of time in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Utc {
    year: i64,
    month: u64,
    day: u64,
    second: u64,
}

impl Utc {
    /// The present time; 1970 where the clock is set before that.
    pub(crate) fn now() -> Self {
        Self::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
    }

    /// From seconds since 1970. Years start in March here, so that the leap day is the last.
    fn from_unix(seconds: u64) -> Self {
        // Days since 0000-03-01; 400 years have 146,097 days.
        let days = seconds / 86_400 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        // Months from March on have 31, 30, 31, 30, 31 days, again and again: 153 in five.
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = (400 * era + year + carry) as i64;
        Self { year, month, day, second: seconds % 86_400 }
    }

    /// `yyyymmdd-hhmmss`
    pub(crate) fn stamp(self) -> String {
        let (h, m, s) = self.time();
        format!("{:04}{:02}{:02}-{h:02}{m:02}{s:02}", self.year, self.month, self.day)
    }

    /// `yyyy-mm-ddThh:mm:ssZ`, as in RFC 3339.
    pub(crate) fn rfc3339(self) -> String {
        let (h, m, s) = self.time();
        format!("{:04}-{:02}-{:02}T{h:02}:{m:02}:{s:02}Z", self.year, self.month, self.day)
    }

    fn time(self) -> (u64, u64, u64) {
        (self.second / 3600, self.second / 60 % 60, self.second % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_date_command() {
        for (seconds, stamp) in [
            (0, "19700101-000000"),
            (951_782_399, "20000228-235959"),
            (951_782_400, "20000229-000000"),
            (951_868_800, "20000301-000000"),
            (1_000_000_000, "20010909-014640"),
            (1_709_164_800, "20240229-000000"),
            (1_735_689_599, "20241231-235959"),
            (4_107_542_400, "21000301-000000"),
        ] {
            assert_eq!(Utc::from_unix(seconds).stamp(), stamp, "{seconds}");
        }
        assert_eq!(Utc::from_unix(1_000_000_000).rfc3339(), "2001-09-09T01:46:40Z");
    }

    #[test]
    fn every_day_of_five_centuries_follows_the_one_before() {
        let leap = |y: i64| (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
        let length = |y: i64, m: u64| match m {
            2 => 28 + u64::from(leap(y)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let (mut y, mut m, mut d) = (1970, 1, 1);
        for day in 0..500 * 366 {
            let got = Utc::from_unix(day * 86_400);
            assert_eq!((got.year, got.month, got.day), (y, m, d));
            d += 1;
            if d > length(y, m) {
                (m, d) = (m + 1, 1);
            }
            if m > 12 {
                (y, m) = (y + 1, 1);
            }
        }
    }
}
