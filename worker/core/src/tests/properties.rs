//! Random plays: whatever happens, every attempt is answered once, the store keeps its limit,
//! nothing in use is taken away, and no slot is lost.

use proptest::prelude::*;

use super::play::Play;

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_attempt_is_answered_once(
        steps in 1u32..600,
        slots in 1u32..4,
        pages in 4u64..40,
        seed: u64,
    ) {
        Play::new(seed, slots, pages * 4096).run(steps);
    }
}
