use proptest::prelude::*;

use super::*;

const SECOND_US: u64 = 1_000_000;

fn channel(region: Region, frequency_hz: u32, modulation: Modulation) -> Channel {
    Channel::new(region, frequency_hz, modulation, 8, 237).expect("legal")
}

fn eu868(spreading_factor: u8) -> Channel {
    channel(
        Region::Eu868,
        869_525_000,
        Modulation::new(spreading_factor, 125_000),
    )
}

/// ETSI EN 300 220-2 table B.1: middle, milliseconds on air an hour, power.
#[test]
fn sub_bands_of_europe_are_those_of_the_standard() {
    for (frequency_hz, limit_ms, power_dbm) in [
        (863_100_000, 3_600, 14),
        (864_900_000, 3_600, 14),
        (865_100_000, 36_000, 14),
        (867_900_000, 36_000, 14),
        (868_100_000, 36_000, 14),
        (868_500_000, 36_000, 14),
        (868_800_000, 3_600, 14),
        (869_525_000, 360_000, 27),
        (869_850_000, 36_000, 14),
    ] {
        let channel = channel(Region::Eu868, frequency_hz, Modulation::new(9, 125_000));
        assert_eq!(channel.band().power_dbm, power_dbm, "{frequency_hz}");
        let ledger = Ledger::new(channel);
        assert_eq!(ledger.limit_us(Lane::Flash), limit_ms * 1_000);
        assert_eq!(ledger.window_us(), 3_600 * SECOND_US);
    }
    let wide = channel(Region::Eu868, 869_525_000, Modulation::new(11, 250_000));
    assert_eq!(wide.band().name, "869.4–869.65 MHz (10 %)");
}

#[test]
fn what_is_not_legal_is_refused_with_what_is() {
    let refuse = |region, frequency_hz, spreading_factor, bandwidth_hz| {
        let modulation = Modulation::new(spreading_factor, bandwidth_hz);
        Channel::new(region, frequency_hz, modulation, 8, 237)
            .expect_err("not legal")
            .to_string()
    };
    for frequency_hz in [
        868_650_000,
        869_300_000,
        868_000_000,
        869_425_000,
        870_000_000,
        0,
        u32::MAX,
    ] {
        let error = refuse(Region::Eu868, frequency_hz, 9, 125_000);
        assert!(error.ends_with("use 869525000 Hz"), "{error}");
    }
    let error = refuse(Region::Eu868, 869_525_000, 9, 500_000);
    assert!(error.ends_with("use 868300000 Hz"), "{error}");
    assert!(
        Channel::new(
            Region::Eu868,
            868_300_000,
            Modulation::new(9, 500_000),
            8,
            237
        )
        .is_ok()
    );
    let error = refuse(Region::Us915, 869_525_000, 9, 125_000);
    assert!(error.ends_with("use 915000000 Hz"), "{error}");
    for spreading_factor in [10, 11, 12] {
        let error = refuse(Region::Us915, 915_000_000, spreading_factor, 125_000);
        assert!(error.contains("use a smaller spreading factor"), "{error}");
    }
    for (spreading_factor, bandwidth_hz, coding_rate, preamble_symbols) in [
        (6, 125_000, 5, 8),
        (13, 125_000, 5, 8),
        (255, 125_000, 5, 8),
        (9, 0, 5, 8),
        (9, 125_001, 5, 8),
        (9, 125_000, 4, 8),
        (9, 125_000, 9, 8),
        (9, 125_000, 5, 3),
        (9, 125_000, 5, u16::MAX),
    ] {
        let modulation = Modulation {
            spreading_factor,
            bandwidth_hz,
            coding_rate,
            preamble_symbols,
        };
        let refused = Channel::new(Region::Eu868, 869_525_000, modulation, 8, 237);
        assert!(
            matches!(refused, Err(RegionError::Modulation { .. })),
            "{refused:?}"
        );
    }
    let error = Region::named("EU433").expect_err("not known").to_string();
    assert_eq!(error, "region \"EU433\" is not known: EU868 or US915");
    for region in [Region::Eu868, Region::Us915] {
        assert_eq!(Region::named(region.name()), Ok(region));
    }
}

/// 47 CFR §15.247: no frame longer than 0.4 s below 500 kHz.
#[test]
fn frames_are_no_longer_than_the_dwell() {
    for (spreading_factor, bandwidth_hz, longest) in [
        (7, 125_000, 237),
        (8, 125_000, 130),
        (9, 125_000, 58),
        (10, 250_000, 66),
        (12, 500_000, 237),
    ] {
        let channel = channel(
            Region::Us915,
            915_000_000,
            Modulation::new(spreading_factor, bandwidth_hz),
        );
        let name = format!("SF{spreading_factor} at {bandwidth_hz}");
        assert_eq!(channel.longest_frame(), longest, "{name}");
        assert_eq!(channel.longest_payload(), longest - OVERHEAD_OCTETS);
        let mut ledger = Ledger::new(channel);
        let refused = ledger
            .may_send_at(longest + 1, Lane::Flash, 0)
            .expect_err("too long");
        assert_eq!(refused.longest, longest);
        if bandwidth_hz < 500_000 {
            assert!(channel.airtime_us(longest) <= 400_000);
            ledger.spend(longest, 0);
            let next = ledger
                .may_send_at(longest, Lane::Flash, 1)
                .expect("some time");
            let window = if bandwidth_hz == 125_000 { 20 } else { 10 };
            assert!(
                (window * SECOND_US..(window + 1) * SECOND_US).contains(&next),
                "{name}: {next}"
            );
        }
    }
}

#[test]
fn routine_leaves_a_quarter_and_priority_a_tenth_of_the_hour() {
    let mut ledger = Ledger::new(eu868(9));
    let airtime_us = ledger.channel().airtime_us(100);
    let mut now_us = 5 * SECOND_US;
    for lane in [Lane::Routine, Lane::Priority, Lane::Flash] {
        while ledger.may_send_at(100, lane, now_us) == Ok(now_us) {
            ledger.spend(100, now_us);
            now_us += airtime_us;
        }
        let (used, limit) = (ledger.used_us(now_us), ledger.limit_us(lane));
        assert!(
            used <= limit && used + airtime_us > limit,
            "{lane:?}: {used}"
        );
    }
    assert_eq!(
        Lane::ALL.map(|lane| ledger.limit_us(lane) / SECOND_US),
        [360, 324, 270]
    );
    let next = ledger
        .may_send_at(100, Lane::Flash, now_us)
        .expect("some time");
    assert!(
        (3_600 * SECOND_US..=3_670 * SECOND_US).contains(&next),
        "{next}"
    );
    assert_eq!(ledger.may_send_at(100, Lane::Flash, next), Ok(next));
    assert_ne!(ledger.may_send_at(100, Lane::Routine, next), Ok(next));
    assert_eq!(ledger.used_us(next + 3_700 * SECOND_US), 0);
}

#[test]
fn what_a_module_adds_is_counted() {
    let channel = eu868(9);
    assert_eq!(
        channel.airtime_us(132),
        Modulation::new(9, 125_000).time_on_air_us(140)
    );
    // A frame of the module with its addition is one of the modem, which has 255 octets.
    assert_eq!(eu868(7).longest_frame(), 237);
    let bare = Channel::new(
        Region::Eu868,
        869_525_000,
        Modulation::new(7, 125_000),
        30,
        255,
    );
    assert_eq!(bare.expect("legal").longest_frame(), 225);
}

#[test]
fn another_sub_band_starts_with_nothing_spent() {
    let mut ledger = Ledger::new(eu868(9));
    ledger.spend(200, 0);
    let kept = ledger.encode(0);
    let other = channel(Region::Eu868, 868_100_000, Modulation::new(9, 125_000));
    let restored = Ledger::decode(other, &kept, 0).expect("kept");
    assert_eq!(restored.used_us(0), 0);
    let restored = Ledger::decode(eu868(7), &kept, 0).expect("kept");
    assert!(restored.used_us(0) >= ledger.used_us(0));
}

#[test]
fn what_was_spent_with_one_spreading_factor_counts_with_the_next() {
    let mut ledger = Ledger::new(eu868(7));
    let mut now_us = 0;
    while ledger.may_send_at(237, Lane::Routine, now_us) == Ok(now_us) {
        ledger.spend(237, now_us);
        now_us += ledger.channel().airtime_us(237);
    }
    let used_us = ledger.used_us(now_us);
    ledger.set_spreading_factor(12).expect("lawful");
    assert_eq!(ledger.used_us(now_us), used_us);
    let at_us = ledger.may_send_at(237, Lane::Routine, now_us);
    assert!(at_us.expect("not too long") > now_us + 3_000 * SECOND_US);
    // A message that was short enough in the Americas is not any more, and no message is short enough for SF10.
    let narrow = Modulation::new(7, 125_000);
    let mut ledger = Ledger::new(channel(Region::Us915, 915_000_000, narrow));
    assert_eq!(ledger.channel().longest_frame(), 237);
    ledger.set_spreading_factor(9).expect("lawful");
    assert_eq!(ledger.channel().longest_frame(), 58);
    let refused = ledger.set_spreading_factor(10).expect_err("no room");
    assert!(refused.to_string().contains("SF10"), "{refused}");
    assert_eq!(ledger.channel().longest_frame(), 58, "nothing has changed");
}

#[test]
fn a_restart_forgets_nothing_and_asks_for_few_writes() {
    let mut ledger = Ledger::new(eu868(9));
    let airtime_us = ledger.channel().airtime_us(100);
    let (mut disk, mut writes) = (ledger.encode(0), 0);
    let mut now_us = 0;
    for _ in 0..300 {
        if ledger.spend(100, now_us) {
            disk = ledger.encode(now_us);
            writes += 1;
        }
        now_us += airtime_us;
        let restored = Ledger::decode(eu868(9), &disk, 0).expect("kept");
        let (used, kept) = (ledger.used_us(now_us), restored.used_us(0));
        assert!(
            kept >= used && kept <= used + 9 * SECOND_US,
            "{kept}, {used}"
        );
        assert_eq!(
            restored.used_us(3_600 * SECOND_US - now_us),
            kept,
            "no time has passed"
        );
    }
    assert!(writes <= 1 + 300 * airtime_us / (9 * SECOND_US), "{writes}");
}

/// A frame at the end of one of the ledger's steps, a clock that begins at the end of another.
#[test]
fn a_restart_keeps_a_frame_for_the_whole_hour() {
    let mut ledger = Ledger::new(eu868(9));
    let airtime_us = ledger.channel().airtime_us(100);
    ledger.spend(100, 30 * SECOND_US - airtime_us - 1);
    let kept = ledger.encode(30 * SECOND_US);
    let now_us = 30 * SECOND_US - 1;
    let restored = Ledger::decode(eu868(9), &kept, now_us).expect("kept");
    assert!(restored.used_us(now_us + HOUR_US - 1) > 9 * SECOND_US);
}

/// What a radio did: a frame, a pause, another spreading factor, or a power cut of some length.
#[derive(Clone, Debug)]
enum Event {
    Sends(usize, Lane),
    Waits(u64),
    Tunes(u8),
    LosesPower(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let lane = prop::sample::select(Lane::ALL.to_vec());
    prop_oneof![
        20 => (20..=237_usize, lane).prop_map(|(octets, lane)| Event::Sends(octets, lane)),
        3 => (0..60 * SECOND_US).prop_map(Event::Waits),
        1 => (0..4_000 * SECOND_US).prop_map(Event::Waits),
        2 => (7..=12_u8).prop_map(Event::Tunes),
        1 => (0..400 * SECOND_US).prop_map(Event::LosesPower),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Every hour of what truly happened is within the limit, also when the clock begins anew and the disk holds only
    /// what was written when `spend` asked for it.
    #[test]
    fn no_hour_is_above_the_limit(events in prop::collection::vec(event(), 1..400), low in any::<bool>()) {
        let channel = if low {
            channel(Region::Eu868, 868_100_000, Modulation::new(12, 125_000))
        } else {
            eu868(12)
        };
        let mut ledger = Ledger::new(channel);
        let limit_us = ledger.limit_us(Lane::Flash);
        let mut disk = ledger.encode(0);
        // The world's time, and when the node's clock began in it.
        let (mut time_us, mut booted_us) = (0, 0);
        let mut sent: Vec<(u64, u64)> = Vec::new();
        for event in events {
            let channel = *ledger.channel();
            let now_us = time_us - booted_us;
            match event {
                Event::Waits(us) => time_us += us,
                Event::Tunes(spreading_factor) => {
                    let before = ledger.used_us(now_us);
                    ledger.set_spreading_factor(spreading_factor).expect("lawful");
                    prop_assert_eq!(ledger.used_us(now_us), before);
                }
                Event::LosesPower(us) => {
                    time_us += us;
                    booted_us = time_us;
                    ledger = Ledger::decode(channel, &disk, 0).expect("kept");
                }
                Event::Sends(octets, lane) => {
                    let octets = octets.min(channel.longest_frame());
                    let at = ledger.may_send_at(octets, lane, now_us).expect("not too long");
                    prop_assert!(at >= now_us && at < now_us + 3_700 * SECOND_US);
                    prop_assert!(ledger.used_us(at) + channel.airtime_us(octets) <= ledger.limit_us(lane));
                    if ledger.spend(octets, at) {
                        disk = ledger.encode(at);
                    }
                    let began_us = booted_us + at;
                    time_us = began_us + channel.airtime_us(octets);
                    sent.push((began_us, time_us));
                    prop_assert!(ledger.steps.len() <= MOST_STEPS);
                    prop_assert!(disk.len() <= 652);
                    // The hour that ends with this frame.
                    let from_us = time_us.saturating_sub(HOUR_US);
                    let truly_us: u64 = sent.iter().map(|(began, ended)| ended.saturating_sub(from_us.max(*began))).sum();
                    prop_assert!(truly_us <= limit_us, "{} of {}", truly_us, limit_us);
                }
            }
        }
    }

    #[test]
    fn no_octets_panic(kept in prop::collection::vec(any::<u8>(), 0..700), now_us in any::<u64>(), same in any::<bool>()) {
        let mut kept = kept;
        if same && kept.len() >= 12 {
            let good = Ledger::new(eu868(9)).encode(0);
            kept[..12].copy_from_slice(&good[..12]);
        }
        if let Ok(mut ledger) = Ledger::decode(eu868(9), &kept, now_us) {
            let _ = ledger.may_send_at(100, Lane::Routine, now_us);
            ledger.spend(100, now_us);
            prop_assert!(ledger.used_us(now_us) > 0);
            prop_assert!(Ledger::decode(eu868(9), &ledger.encode(now_us), now_us).is_ok());
        }
    }
}
