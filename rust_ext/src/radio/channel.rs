//! Who hears whom: path loss, capture effect, collisions, half duplex.

use std::sync::Arc;

use crate::mesh::airtime::Modulation;

/// Number of a radio on the channel, from 0.
pub type Node = usize;

/// Where a radio stands and how loud it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Radio {
    /// Metres east of the origin.
    pub x_m: f64,
    /// Metres north of the origin.
    pub y_m: f64,
    /// Radiated power in dBm, antenna included.
    pub power_dbm: f64,
    /// Whether it still works.
    pub alive: bool,
}

impl Radio {
    /// Distance to another radio in metres, never below one.
    pub fn distance_m(&self, other: &Self) -> f64 {
        (self.x_m - other.x_m).hypot(self.y_m - other.y_m).max(1.0)
    }
}

/// Path loss by distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PathLoss {
    /// 3GPP suburban macro (TR 25.996 §5.2, as LoRa simulators use it) with antennas at `height_m`.
    SuburbanMacro {
        /// Carrier in Hz.
        frequency_hz: f64,
        /// Height of every antenna in metres.
        height_m: f64,
    },
    /// `loss_db` at one metre, falling off by `10 × exponent` dB a decade.
    LogDistance {
        /// Loss at one metre in dB.
        loss_db: f64,
        /// 2 in free space, 3 to 4 among houses.
        exponent: f64,
    },
}

impl PathLoss {
    /// Loss in dB over a distance in metres.
    pub fn at(self, distance_m: f64) -> f64 {
        match self {
            Self::SuburbanMacro {
                frequency_hz,
                height_m,
            } => {
                (44.9 - 6.55 * height_m.log10()) * (distance_m.log10() - 3.0)
                    + 45.5
                    + (35.46 - 1.1 * height_m) * (frequency_hz.log10() - 6.0)
                    - 13.82 * height_m.log10()
                    + 0.7 * height_m
            }
            Self::LogDistance { loss_db, exponent } => {
                loss_db + 10.0 * exponent * distance_m.log10()
            }
        }
    }
}

/// What all radios of a channel share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Medium {
    /// Loss by distance.
    pub path_loss: PathLoss,
    /// Weakest signal that is demodulated, in dBm.
    pub sensitivity_dbm: f64,
    /// Weakest signal that still disturbs another one, in dBm.
    pub disturbing_dbm: f64,
    /// Weakest signal that channel activity detection notices, in dBm.
    pub detection_dbm: f64,
    /// Noise in the channel's bandwidth, in dBm; SNR is what a signal has above it.
    pub noise_dbm: f64,
    /// How much stronger a frame must be to survive another one, in dB (6 within one spreading factor).
    pub capture_db: f64,
}

/// How far above the noise a signal must be to be demodulated, in dB (SX1276 datasheet, table 13): below it from
/// SF7 on.
pub fn snr_limit_db(spreading_factor: u8) -> f64 {
    -7.5 - 2.5 * (f64::from(spreading_factor) - 7.0)
}

/// One frame on its way.
#[derive(Debug, Clone)]
pub struct Transmission {
    /// Its number.
    pub id: u64,
    /// Who sends it.
    pub from: Node,
    /// Its octets.
    pub frame: Arc<[u8]>,
    /// Its modulation: frames of different spreading factors do not disturb each other.
    pub modulation: Modulation,
    /// When it began, in microseconds.
    pub began_us: u64,
    /// When it ends, in microseconds.
    pub ends_us: u64,
}

#[derive(Debug, Clone)]
struct Arrival {
    id: u64,
    rssi_dbm: f64,
    spreading_factor: u8,
    began_us: u64,
    ends_us: u64,
    /// Strong enough to be demodulated; weaker ones only disturb.
    heard: bool,
    lost: bool,
    /// It never reached the demodulator, so it is not counted against later ones.
    missed: bool,
}

/// What a radio got of one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reception {
    /// Who got it.
    pub node: Node,
    /// Strength in dBm.
    pub rssi_dbm: f64,
    /// Strength above the noise in dB.
    pub snr_db: f64,
    /// Whether it came whole; a broken one still kept the receiver busy.
    pub whole: bool,
}

/// The channel. A slot of `loss_db` costs 8 octets for each ordered pair of radios.
pub struct Channel {
    medium: Medium,
    radios: Vec<Radio>,
    /// Loss from row to column in dB, with the shadowing of that direction.
    loss_db: Vec<f64>,
    shadow_db: Vec<f64>,
    on_air: Vec<Transmission>,
    arrivals: Vec<Vec<Arrival>>,
    sends_until_us: Vec<u64>,
    next: u64,
    by_spreading: bool,
    /// Microseconds on air of each radio.
    pub airtime_us: Vec<u64>,
    /// Microseconds in which each radio's receiver was occupied.
    pub receive_us: Vec<u64>,
}

impl Channel {
    /// A channel of some radios; `shadow_db` has, for each ordered pair, what stands in the way besides distance.
    ///
    /// # Panics
    /// When `shadow_db` is not as long as radios squared.
    pub fn new(medium: Medium, radios: Vec<Radio>, shadow_db: Vec<f64>) -> Self {
        let count = radios.len();
        assert_eq!(
            shadow_db.len(),
            count * count,
            "one shadow for each ordered pair"
        );
        let mut channel = Self {
            medium,
            loss_db: vec![0.0; count * count],
            shadow_db,
            on_air: Vec::new(),
            arrivals: vec![Vec::new(); count],
            sends_until_us: vec![0; count],
            next: 0,
            by_spreading: false,
            airtime_us: vec![0; count],
            receive_us: vec![0; count],
            radios,
        };
        for node in 0..count {
            channel.measure(node);
        }
        channel
    }

    /// Lets each frame's spreading factor decide how weak a signal is still demodulated, instead of the
    /// medium's one figure: a channel on which radios are set differently.
    #[must_use]
    pub fn with_sensitivity_by_spreading(mut self) -> Self {
        self.by_spreading = true;
        self
    }

    /// Weakest signal of a modulation that is demodulated, in dBm.
    pub fn sensitivity_dbm(&self, modulation: Modulation) -> f64 {
        if self.by_spreading {
            self.medium.noise_dbm + snr_limit_db(modulation.spreading_factor)
        } else {
            self.medium.sensitivity_dbm
        }
    }

    fn measure(&mut self, node: Node) {
        let count = self.radios.len();
        for other in 0..count {
            if other != node {
                let loss = self
                    .medium
                    .path_loss
                    .at(self.radios[node].distance_m(&self.radios[other]));
                self.loss_db[node * count + other] = loss + self.shadow_db[node * count + other];
                self.loss_db[other * count + node] = loss + self.shadow_db[other * count + node];
            }
        }
    }

    /// The radios.
    pub fn radios(&self) -> &[Radio] {
        &self.radios
    }

    /// Moves a radio; frames on the air keep the strength they began with.
    pub fn move_to(&mut self, node: Node, x_m: f64, y_m: f64) {
        self.radios[node].x_m = x_m;
        self.radios[node].y_m = y_m;
        self.measure(node);
    }

    /// Sets what stands between two radios besides distance, one way, in dB.
    pub fn set_shadow(&mut self, from: Node, to: Node, shadow_db: f64) {
        self.shadow_db[from * self.radios.len() + to] = shadow_db;
        self.measure(from);
    }

    /// Sets what a radio radiates, in dBm.
    pub fn set_power(&mut self, node: Node, power_dbm: f64) {
        self.radios[node].power_dbm = power_dbm;
    }

    /// Switches a radio off or on; what it was sending or receiving is lost.
    pub fn set_alive(&mut self, node: Node, alive: bool) {
        self.radios[node].alive = alive;
        if !alive {
            self.sends_until_us[node] = 0;
            for arrival in &mut self.arrivals[node] {
                arrival.lost = true;
            }
            let cut: Vec<u64> = self
                .on_air
                .iter()
                .filter(|sent| sent.from == node)
                .map(|sent| sent.id)
                .collect();
            for arrivals in &mut self.arrivals {
                for arrival in arrivals {
                    arrival.lost |= cut.contains(&arrival.id);
                }
            }
        }
    }

    /// Strength in dBm at which `to` hears `from`.
    pub fn rssi_dbm(&self, from: Node, to: Node) -> f64 {
        self.radios[from].power_dbm - self.loss_db[from * self.radios.len() + to]
    }

    /// Whether `to` can demodulate `from` when nothing disturbs.
    pub fn reaches(&self, from: Node, to: Node) -> bool {
        from != to && self.rssi_dbm(from, to) >= self.medium.sensitivity_dbm
    }

    /// Whether a radio is sending.
    pub fn is_sending(&self, node: Node, now_us: u64) -> bool {
        self.sends_until_us[node] > now_us
    }

    /// Whether a radio is receiving a frame.
    pub fn is_receiving(&self, node: Node, now_us: u64) -> bool {
        self.arrivals[node]
            .iter()
            .any(|arrival| arrival.heard && !arrival.lost && arrival.ends_us > now_us)
    }

    /// Whether channel activity detection would notice a frame that has been on the air for `blind_us`.
    pub fn is_active(&self, node: Node, now_us: u64, blind_us: u64) -> bool {
        self.on_air.iter().any(|sent| {
            sent.from != node
                && sent.began_us + blind_us <= now_us
                && now_us <= sent.ends_us
                && self.rssi_dbm(sent.from, node) >= self.medium.detection_dbm
        })
    }

    /// Begins a frame and gives its number and end. What the sender was receiving is lost (half duplex).
    ///
    /// # Panics
    /// When the radio is sending already or is dead: a driver cannot do that.
    pub fn begin(
        &mut self,
        from: Node,
        frame: Arc<[u8]>,
        modulation: Modulation,
        now_us: u64,
    ) -> (u64, u64) {
        assert!(self.radios[from].alive, "radio {from} is dead");
        assert!(!self.is_sending(from, now_us), "radio {from} is sending");
        let length_us = modulation.time_on_air_us(frame.len());
        let (id, ends_us) = (self.next, now_us + length_us);
        let sensitivity_dbm = self.sensitivity_dbm(modulation);
        self.next += 1;
        self.sends_until_us[from] = ends_us;
        self.airtime_us[from] += length_us;
        for arrival in &mut self.arrivals[from] {
            arrival.lost = true;
        }
        for to in 0..self.radios.len() {
            if to == from || !self.radios[to].alive {
                continue;
            }
            let rssi_dbm = self.rssi_dbm(from, to);
            if rssi_dbm < self.medium.disturbing_dbm {
                continue;
            }
            let heard = rssi_dbm >= sensitivity_dbm;
            let mut lost = !heard || self.is_sending(to, now_us);
            for other in &mut self.arrivals[to] {
                if other.ends_us <= now_us
                    || other.missed
                    || other.spreading_factor != modulation.spreading_factor
                {
                    continue;
                }
                // The later frame is found if it is much stronger; the earlier one survives if it is.
                if rssi_dbm < other.rssi_dbm + self.medium.capture_db {
                    lost = true;
                }
                if other.rssi_dbm < rssi_dbm + self.medium.capture_db {
                    other.lost = true;
                }
            }
            self.arrivals[to].push(Arrival {
                id,
                rssi_dbm,
                spreading_factor: modulation.spreading_factor,
                began_us: now_us,
                ends_us,
                heard,
                lost,
                missed: lost,
            });
        }
        self.on_air.push(Transmission {
            id,
            from,
            frame,
            modulation,
            began_us: now_us,
            ends_us,
        });
        (id, ends_us)
    }

    /// Ends a frame and says who was in reach of it.
    pub fn end(&mut self, id: u64) -> Option<(Transmission, Vec<Reception>)> {
        let index = self.on_air.iter().position(|sent| sent.id == id)?;
        let sent = self.on_air.swap_remove(index);
        let mut receptions = Vec::new();
        for node in 0..self.radios.len() {
            let Some(index) = self.arrivals[node]
                .iter()
                .position(|arrival| arrival.id == id)
            else {
                continue;
            };
            let arrival = self.arrivals[node].swap_remove(index);
            if arrival.heard && self.radios[node].alive {
                self.receive_us[node] += arrival.ends_us - arrival.began_us;
                receptions.push(Reception {
                    node,
                    rssi_dbm: arrival.rssi_dbm,
                    snr_db: arrival.rssi_dbm - self.medium.noise_dbm,
                    whole: !arrival.lost,
                });
            }
        }
        Some((sent, receptions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULATION: Modulation = Modulation::new(9, 125_000);

    /// Radios on a line, `metres` from the first, in free space; 14 dBm.
    fn line(metres: &[f64]) -> Channel {
        let medium = Medium {
            path_loss: PathLoss::LogDistance {
                loss_db: 31.5,
                exponent: 3.0,
            },
            sensitivity_dbm: -125.0,
            disturbing_dbm: -131.0,
            detection_dbm: -128.0,
            noise_dbm: -117.0,
            capture_db: 6.0,
        };
        let radios = metres
            .iter()
            .map(|&x_m| Radio {
                x_m,
                y_m: 0.0,
                power_dbm: 14.0,
                alive: true,
            })
            .collect::<Vec<_>>();
        let shadow = vec![0.0; metres.len() * metres.len()];
        Channel::new(medium, radios, shadow)
    }

    fn whole(receptions: &[Reception]) -> Vec<Node> {
        receptions
            .iter()
            .filter(|reception| reception.whole)
            .map(|reception| reception.node)
            .collect()
    }

    #[test]
    fn only_who_is_near_enough_hears() {
        let mut channel = line(&[0.0, 1_000.0, 100_000.0]);
        let (id, ends) = channel.begin(0, vec![1; 10].into(), MODULATION, 5);
        assert_eq!(ends, 5 + MODULATION.time_on_air_us(10));
        let (sent, receptions) = channel.end(id).unwrap();
        assert_eq!((sent.from, whole(&receptions)), (0, vec![1]));
        assert!((receptions[0].rssi_dbm - (14.0 - 31.5 - 90.0)).abs() < 1e-9);
        assert!(channel.end(id).is_none(), "a frame ends once");
    }

    #[test]
    fn of_two_frames_the_much_stronger_survives_and_equal_ones_die() {
        // 1 hears 0 at 500 m and 2 at 2,000 m: 18 dB apart.
        for (order, metres, survivor) in [
            ([0, 2], [0.0, 500.0, 2_500.0], Some(0)),
            ([2, 0], [0.0, 500.0, 2_500.0], Some(0)),
            ([0, 2], [0.0, 500.0, 1_050.0], None),
        ] {
            let mut channel = line(&metres);
            let first = channel.begin(order[0], vec![0; 20].into(), MODULATION, 0).0;
            let second = channel
                .begin(order[1], vec![0; 20].into(), MODULATION, 90_000)
                .0;
            for (id, from) in [(first, order[0]), (second, order[1])] {
                let (_, receptions) = channel.end(id).unwrap();
                assert_eq!(
                    whole(&receptions).contains(&1),
                    survivor == Some(from),
                    "{order:?} {metres:?} {from}"
                );
            }
        }
    }

    #[test]
    fn another_spreading_factor_does_not_disturb() {
        let mut channel = line(&[0.0, 500.0, 1_000.0]);
        let first = channel.begin(0, vec![0; 20].into(), MODULATION, 0).0;
        let second = channel
            .begin(2, vec![0; 20].into(), Modulation::new(10, 125_000), 0)
            .0;
        for id in [first, second] {
            assert!(whole(&channel.end(id).unwrap().1).contains(&1));
        }
    }

    #[test]
    fn a_higher_spreading_factor_reaches_further_when_it_is_asked_for() {
        // -129.6 dBm: below what SF9 needs over this noise (-129.5), above what SF10 does (-132).
        let far_m = 10_f64.powf((14.0 - 31.5 + 129.6) / 30.0);
        for (spreading_factor, heard) in [(9, false), (10, true)] {
            let mut channel = line(&[0.0, far_m]).with_sensitivity_by_spreading();
            let modulation = Modulation::new(spreading_factor, 125_000);
            let id = channel.begin(0, vec![0; 20].into(), modulation, 0).0;
            assert_eq!(whole(&channel.end(id).unwrap().1) == vec![1], heard);
        }
    }

    #[test]
    fn an_obstacle_counts_one_way_and_power_for_all() {
        let mut channel = line(&[0.0, 1_000.0]);
        let before_dbm = channel.rssi_dbm(0, 1);
        channel.set_shadow(0, 1, 12.0);
        channel.set_power(0, 17.0);
        assert!((channel.rssi_dbm(0, 1) - (before_dbm - 9.0)).abs() < 1e-9);
        assert!((channel.rssi_dbm(1, 0) - before_dbm).abs() < 1e-9);
    }

    #[test]
    fn who_sends_hears_nothing() {
        let mut channel = line(&[0.0, 500.0]);
        let first = channel.begin(0, vec![0; 20].into(), MODULATION, 0).0;
        assert!(
            channel.is_receiving(1, 10)
                && !channel.is_active(1, 10, 1_000)
                && channel.is_active(1, 2_000, 1_000)
        );
        let (second, ends) = channel.begin(1, vec![0; 20].into(), MODULATION, 10);
        assert!(
            channel.is_sending(1, 20)
                && !channel.is_receiving(1, 20)
                && !channel.is_sending(1, ends)
        );
        assert!(whole(&channel.end(first).unwrap().1).is_empty());
        assert!(whole(&channel.end(second).unwrap().1).is_empty());
    }

    #[test]
    fn a_radio_that_dies_or_walks_away_is_not_heard() {
        let mut channel = line(&[0.0, 500.0]);
        let cut = channel.begin(0, vec![0; 20].into(), MODULATION, 0).0;
        channel.set_alive(0, false);
        assert!(whole(&channel.end(cut).unwrap().1).is_empty());
        channel.set_alive(0, true);
        assert!(
            !channel.is_sending(0, 1),
            "its next frame need not wait for the one that was cut off"
        );
        channel.move_to(0, -200_000.0, 0.0);
        let far = channel
            .begin(0, vec![0; 20].into(), MODULATION, 10_000_000)
            .0;
        assert!(channel.end(far).unwrap().1.is_empty());
    }
}
