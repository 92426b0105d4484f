//! The only chance there is: numbers that follow from the seed.

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). Two of one seed give the same numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Numbers that follow from `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng(mix(seed ^ 0x6d61_6e79_6861_6e64))
    }

    /// A generator of its own for one purpose: what is drawn there changes nothing here.
    pub fn fork(&mut self) -> Rng {
        Rng(self.draw())
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`; 0 for `n` = 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.draw() % n }
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A number from `low` to `high`, small ones as likely as large ones by orders of magnitude.
    pub fn scaled(&mut self, low: u64, high: u64) -> u64 {
        let bits = u64::from(u64::BITS - (high / low.max(1)).leading_zeros());
        let top = low.max(1) << self.below(bits + 1).min(63);
        self.range(low, top.clamp(low, high))
    }

    /// True `parts` times in 100,000.
    pub fn chance(&mut self, parts: u32) -> bool {
        parts > 0 && self.below(100_000) < u64::from(parts)
    }

    /// One of `items`, which is not empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// Spreads a number over all bits.
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One number made of two.
pub fn mix2(a: u64, b: u64) -> u64 {
    mix(a.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(mix(b.wrapping_add(1))))
}
