//! The arithmetic, without a cluster in sight.

/// Throws `throws` darts at the unit square, and counts those that hit the quarter of a circle in
/// it. The same `seed` always throws the same darts.
pub fn hits(seed: u64, throws: u32) -> u64 {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        unit(mix(state))
    };
    let inside = |_: &u32| {
        let (x, y): (f64, f64) = (next(), next());
        x * x + y * y <= 1.0
    };
    (0..throws).filter(inside).count() as u64
}

/// SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// 53 of 64 random bits as a number from 0 up to and without 1.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// The function that is integrated: harmless at 1, and wild near 0.
pub fn wild(x: f64) -> f64 {
    (1.0 / (x + 0.01)).sin()
}

/// An interval, and how exactly its integral is asked for.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Piece {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// The error that is allowed.
    pub tolerance: f64,
    /// How often it may still be halved.
    pub halvings: u32,
}

impl Piece {
    /// Its integral if a look at five points tells it within the tolerance, by Simpson's rule.
    pub fn easy(&self) -> Option<f64> {
        let middle = (self.from + self.to) / 2.0;
        let whole = simpson(self.from, self.to);
        let halves = simpson(self.from, middle) + simpson(middle, self.to);
        let good = (halves - whole).abs() <= 15.0 * self.tolerance || self.halvings == 0;
        good.then_some(halves + (halves - whole) / 15.0)
    }

    /// Its halves, each with half of the tolerance.
    pub fn halves(&self) -> [Piece; 2] {
        let middle = (self.from + self.to) / 2.0;
        let half = Piece { tolerance: self.tolerance / 2.0, halvings: self.halvings - 1, ..*self };
        [Piece { to: middle, ..half }, Piece { from: middle, ..half }]
    }

    /// Its integral, computed here and now.
    pub fn integral(&self) -> f64 {
        self.easy().unwrap_or_else(|| {
            let [left, right] = self.halves();
            left.integral() + right.integral()
        })
    }
}

fn simpson(from: f64, to: f64) -> f64 {
    (to - from) / 6.0 * (wild(from) + 4.0 * wild((from + to) / 2.0) + wild(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn darts_are_the_same_for_the_same_seed_and_hit_about_pi_quarters() {
        assert_eq!(hits(7, 1000), hits(7, 1000));
        assert_ne!(hits(7, 1000), hits(8, 1000));
        let pi = 4.0 * hits(1, 1_000_000) as f64 / 1e6;
        assert!((pi - std::f64::consts::PI).abs() < 0.01, "{pi}");
    }

    #[test]
    fn the_integral_agrees_with_a_fine_sum() {
        let piece = Piece { from: 0.0, to: 1.0, tolerance: 1e-9, halvings: 40 };
        let n = 4_000_000;
        let sum: f64 = (0..n).map(|i| wild((i as f64 + 0.5) / n as f64)).sum();
        assert!((piece.integral() - sum / n as f64).abs() < 1e-7);
    }
}
