//! TP service centre time stamp: seven octets of swapped digits with a time zone (3GPP TS 23.040 §9.2.3.11).

/// Octets of a time stamp.
pub const OCTETS: usize = 7;
const QUARTER_S: i64 = 15 * 60;
const DAY_S: i64 = 24 * 60 * 60;

/// A time stamp as it stood in the PDU; a network may well send nonsense, which must not cost the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamp(pub [u8; OCTETS]);

impl Timestamp {
    /// Time stamp of a moment in Unix seconds, in a time zone of so many quarters of an hour east of UTC.
    ///
    /// The year has two digits: what is not between 2000 and 2099 comes back a century off. The zone is
    /// limited to 79 quarters by its own two digits.
    pub fn new(unix_s: i64, zone_quarters: i8) -> Self {
        let zone = i64::from(zone_quarters.clamp(-79, 79));
        let local_s = unix_s.saturating_add(zone * QUARTER_S);
        let (year, month, day) = civil(local_s.div_euclid(DAY_S));
        let second = local_s.rem_euclid(DAY_S);
        let sign = if zone < 0 { 0x08 } else { 0 };
        Self([
            swapped(year.rem_euclid(100)),
            swapped(month),
            swapped(day),
            swapped(second / 3600),
            swapped(second / 60 % 60),
            swapped(second % 60),
            swapped(zone.abs()) | sign,
        ])
    }

    /// Unix seconds, or `None` when a field is not a decimal number or out of range.
    pub fn unix_s(self) -> Option<i64> {
        let [year, month, day, hour, minute, second, zone] = self.0;
        let year = 2000 + number(year)?;
        let (month, day) = (number(month)?, number(day)?);
        let (hour, minute, second) = (number(hour)?, number(minute)?, number(second)?);
        let zone = number(zone & !0x08)? * if zone & 0x08 == 0 { 1 } else { -1 };
        let days = days(year, month, day);
        let valid = (1..=12).contains(&month) && civil(days) == (year, month, day);
        let valid = valid && hour < 24 && minute < 60 && second < 60;
        valid.then_some(days * DAY_S + hour * 3600 + minute * 60 + second - zone * QUARTER_S)
    }

    /// Quarters of an hour east of UTC, or `None` when the octet is not a decimal number.
    pub fn zone_quarters(self) -> Option<i64> {
        let zone = self.0[6];
        Some(number(zone & !0x08)? * if zone & 0x08 == 0 { 1 } else { -1 })
    }
}

/// Two decimal digits, the lower nibble first.
fn number(octet: u8) -> Option<i64> {
    let (tens, ones) = (octet & 0x0F, octet >> 4);
    (tens < 10 && ones < 10).then_some(i64::from(tens * 10 + ones))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // two decimal digits
fn swapped(number: i64) -> u8 {
    ((number / 10 % 10) | ((number % 10) << 4)) as u8
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, counted in eras of 400 years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a count of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_stamps() {
        // 11 July 2025, 12:13:04, two hours east of UTC.
        let stamp = Timestamp([0x52, 0x70, 0x11, 0x21, 0x31, 0x40, 0x80]);
        assert_eq!(stamp.unix_s(), Some(1_752_228_784));
        assert_eq!(stamp.zone_quarters(), Some(8));
        assert_eq!(Timestamp::new(1_752_228_784, 8), stamp);
        // The same clock four and a half hours west: the sign is bit 3 of the octet.
        let west = Timestamp([0x52, 0x70, 0x11, 0x21, 0x31, 0x40, 0x89]);
        assert_eq!(west.zone_quarters(), Some(-18));
    }

    #[test]
    fn nonsense_is_no_time() {
        for octets in [
            [0xFF; 7],
            [0; 7],
            [0x52, 0x20, 0x03, 0, 0, 0, 0],
            [0x52, 0x70, 0x11, 0x42, 0, 0, 0],
        ] {
            assert_eq!(Timestamp(octets).unix_s(), None, "{octets:x?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(unix_s in 946_800_000i64..4_102_300_000, zone in -79i8..80) {
            let stamp = Timestamp::new(unix_s, zone);
            prop_assert_eq!(stamp.unix_s(), Some(unix_s));
            prop_assert_eq!(stamp.zone_quarters(), Some(i64::from(zone)));
        }

        #[test]
        fn any_octets_and_any_moment(octets: [u8; 7], unix_s: i64, zone: i8) {
            let _ = Timestamp(octets).unix_s();
            let _ = Timestamp::new(unix_s / 2, zone);
        }
    }
}
