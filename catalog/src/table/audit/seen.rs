//! Which seqs were seen: a bit each, in blocks that are let go once everything up to them is there.

use std::collections::BTreeMap;

use schemas::Seq;

/// Seqs of one block.
const BLOCK: i64 = 1 << 16;
const WORDS: usize = BLOCK as usize / 64;

/// A set of seqs from 1 on.
///
/// Bits are held for blocks that somebody is in, so it is 8 KiB for 65,536 seqs of the range in which files overlap, whatever lies below.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The first so many seqs are gone: they count as seen here, and as missing when asked.
    gone: i64,
    /// Blocks below this one are full, and no longer held.
    settled: i64,
    blocks: BTreeMap<i64, Block>,
}

#[derive(Debug)]
struct Block {
    bits: Box<[u64; WORDS]>,
    count: i64,
}

impl Block {
    fn new() -> Self {
        Self { bits: Box::new([0; WORDS]), count: 0 }
    }

    /// False if it is there already.
    fn insert(&mut self, place: i64) -> bool {
        let (word, bit) = ((place / 64) as usize, 1 << (place % 64));
        let is_new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        self.count += i64::from(is_new);
        is_new
    }
}

impl Seen {
    /// For seqs from `first` on: retention has taken those below.
    pub(super) fn from(first: Seq) -> Self {
        let gone = first.0 - Seq::FIRST.0;
        let (settled, rest) = (gone.div_euclid(BLOCK), gone.rem_euclid(BLOCK));
        let mut begun = Block::new();
        for place in 0..rest {
            begun.insert(place);
        }
        Self { gone, settled, blocks: [(settled, begun)].into() }
    }

    /// False if it is there already. Seqs begin at 1.
    pub(super) fn insert(&mut self, seq: Seq) -> bool {
        let place = seq.0 - Seq::FIRST.0;
        let block = place.div_euclid(BLOCK);
        block >= self.settled && self.blocks.entry(block).or_insert_with(Block::new).insert(place.rem_euclid(BLOCK))
    }

    /// Adds what another has seen. Errors: a seq that both have.
    pub(super) fn absorb(&mut self, other: Self) -> Result<(), Seq> {
        for (number, theirs) in other.blocks {
            let first = Seq(number * BLOCK + Seq::FIRST.0);
            if number < self.settled {
                return Err(Seq(first.0 + bits(&theirs.bits).next().unwrap_or_default()));
            }
            let Some(mine) = self.blocks.get_mut(&number) else {
                self.blocks.insert(number, theirs);
                continue;
            };
            for (word, (mine, theirs)) in mine.bits.iter_mut().zip(theirs.bits.iter()).enumerate() {
                if *mine & theirs != 0 {
                    let bit = i64::from((*mine & theirs).trailing_zeros());
                    return Err(Seq(first.0 + word as i64 * 64 + bit));
                }
                *mine |= theirs;
            }
            mine.count += theirs.count;
        }
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        while let Some(block) = self.blocks.first_entry() {
            if *block.key() != self.settled || block.get().count < BLOCK {
                break;
            }
            block.remove();
            self.settled += 1;
        }
    }

    /// How many seqs below `end` were not seen, and the first of them.
    pub(super) fn missing(&self, end: Seq) -> (i64, Option<Seq>) {
        let wanted = end.0 - Seq::FIRST.0;
        let held = self.blocks.values().map(|block| block.count).sum::<i64>();
        let seen = self.settled * BLOCK + held - self.gone;
        if seen >= wanted {
            return (0, None);
        }
        if self.gone > 0 {
            return (wanted - seen, Some(Seq::FIRST));
        }
        let mut next = self.settled * BLOCK;
        for (number, block) in &self.blocks {
            let mut places = bits(&block.bits).map(|bit| number * BLOCK + bit);
            if !places.all(|place| {
                let follows = place == next;
                next += i64::from(follows);
                follows
            }) {
                break;
            }
        }
        (wanted - seen, Some(Seq(next + Seq::FIRST.0)))
    }
}

/// The places of the bits that are set, ascending.
fn bits(words: &[u64; WORDS]) -> impl Iterator<Item = i64> {
    words.iter().enumerate().flat_map(|(word, bits)| {
        (0..64).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| word as i64 * 64 + bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seqs: impl IntoIterator<Item = i64>) -> Seen {
        let mut seen = Seen::default();
        assert!(seqs.into_iter().all(|seq| seen.insert(Seq(seq))));
        seen
    }

    #[test]
    fn a_seq_is_new_once() {
        let mut seen = of([1, 5, 70_000]);
        assert!(!seen.insert(Seq(5)) && !seen.insert(Seq(70_000)) && seen.insert(Seq(6)));
    }

    #[test]
    fn what_two_files_both_have_is_named_even_where_the_bits_are_gone() {
        let mut all = of(1..=200_000);
        assert_eq!(all.absorb(of([200_001, 150_000])), Err(Seq(150_000)));
        let mut all = Seen::default();
        all.absorb(of(1..=200_000)).unwrap();
        assert_eq!(all.blocks.len(), 1, "only the last block is not full");
        assert_eq!(all.absorb(of([7])), Err(Seq(7)));
    }

    #[test]
    fn what_retention_took_takes_no_room() {
        let mut seen = Seen::from(Seq(150_000));
        seen.absorb(of(150_000..=300_000)).unwrap();
        assert_eq!(seen.blocks.len(), 1, "only the last block is not full");
        assert_eq!(seen.missing(Seq(300_001)), (149_999, Some(Seq(1))));
        assert_eq!(seen.absorb(of([200_000])), Err(Seq(200_000)));
    }

    #[test]
    fn what_is_missing_is_counted_and_the_first_named() {
        let mut all = Seen::default();
        all.absorb(of((1..=70_000).filter(|seq| ![65_540, 65_999].contains(seq)))).unwrap();
        assert_eq!(all.missing(Seq(70_001)), (2, Some(Seq(65_540))));
        assert_eq!(all.missing(Seq(70_011)), (12, Some(Seq(65_540))));
        all.absorb(of([65_999, 65_540])).unwrap();
        assert_eq!(all.missing(Seq(70_001)), (0, None));
        assert_eq!(all.missing(Seq(70_002)), (1, Some(Seq(70_001))));
        assert_eq!(of([2]).missing(Seq(3)), (1, Some(Seq(1))));
        assert_eq!(Seen::default().missing(Seq(1)), (0, None));
    }
}
