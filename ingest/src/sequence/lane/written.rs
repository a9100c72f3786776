//! When a checkpoint is due: enough was written to the log since the last one. Pure.
//!
//! A checkpoint tells of every topic of its lane, in some hundred bytes to some kilobytes each, however little happened. So it must be rare enough that it costs
//! little beside the log itself, and often enough that a start reads little: that reads the checkpoint too, so a few times its size more is no loss.

/// Segments at which one is due even if they are small: reading one back costs a request.
const SEGMENTS: usize = 4096;
/// A checkpoint of so many bytes costs little more than its request.
const FREE_BYTES: usize = 1 << 20;
/// Bytes of log for each byte of a larger checkpoint.
const LOG_BYTES_EACH: usize = 2;
/// Bytes of a checkpoint for each segment, however small: about what a request costs.
const BYTES_A_SEGMENT: usize = 4 << 10;

/// What went into the log since the last checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) bytes: usize,
    pub(super) segments: usize,
}

impl Written {
    /// True if another checkpoint is due: `wanted` bytes of log are what the operator asks for, `last` is the size of the last checkpoint, 0 if that is not
    /// known.
    pub(super) fn is_enough(self, wanted: u64, last: usize) -> bool {
        let least = last.saturating_sub(FREE_BYTES).saturating_mul(LOG_BYTES_EACH);
        self.bytes as u64 >= wanted.max(least as u64) || self.segments >= SEGMENTS.max(last / BYTES_A_SEGMENT)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn checkpoints_of_any_size_cost_at_most_half_of_the_log_or_four_kibibytes_a_segment(
            wanted in 0..1_000_000u64, size in 0..200_000_000usize, segment in 176..200_000usize,
        ) {
            let mut written = Written::default();
            while !written.is_enough(wanted, size) {
                written.bytes += segment;
                written.segments += 1;
            }
            let large = size.saturating_sub(FREE_BYTES);
            prop_assert!(2 * large <= written.bytes || large <= BYTES_A_SEGMENT * written.segments);
            // And a start reads no more of the log than it has to.
            prop_assert!(written.bytes <= segment + (wanted as usize).max(2 * size));
        }
    }

    #[test]
    fn a_small_state_has_its_checkpoints_as_often_as_the_operator_says() {
        let written = Written { bytes: 700, segments: 1 };
        assert!(written.is_enough(1, 0) && written.is_enough(1, 4_000));
        assert!(!written.is_enough(64 << 20, 4_000));
    }
}
