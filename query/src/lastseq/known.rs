//! What earlier looks have told of one key or pattern, and what it leaves to be looked at. Pure.

use schemas::Seq;

/// Nothing that matches lies between `quiet_after` and `until`, both exclusive.
///
/// Tables only grow at their end, and rewriting keeps seqs: this stays true, and a later look begins at `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    quiet_after: Seq,
    /// True if an event that matches lies at `quiet_after`: then what lies below is of no interest.
    is_event: bool,
    until: Seq,
}

/// What a question leaves to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing.
    Answered(Option<Seq>),
    /// Look at what lies above.
    Look {
        /// Exclusive.
        above: Seq,
    },
}

impl Known {
    /// What is left of the question "the last above `above`, in a table that ends before `end`".
    pub(super) fn rest(known: Option<Self>, above: Seq, end: Seq) -> Rest {
        // An answer of a newer snapshot is none for this one: it would be told of seqs beyond its watermark.
        match known.filter(|known| known.until <= end && known.covers(above)) {
            Some(known) if known.until == end => Rest::Answered(known.answer(above)),
            Some(known) => Rest::Look { above: Seq(known.until.0 - 1).max(above) },
            None => Rest::Look { above },
        }
    }

    /// What is known after a look at everything above `looked_above` in a table that ends before `end` has found its last match.
    pub(super) fn after_look(known: Option<Self>, looked_above: Seq, found: Option<Seq>, end: Seq) -> Self {
        // What reaches beyond this table, which is an older snapshot's, says nothing that could be cut to it.
        let known = known
            .filter(|known| known.until <= end && looked_above.0 >= known.until.0 - 1 && known.covers(looked_above));
        match (found, known) {
            (Some(last), _) => Self { quiet_after: last, is_event: true, until: end },
            (None, Some(known)) if looked_above.0 == known.until.0 - 1 => Self { until: end, ..known },
            (None, _) => Self { quiet_after: looked_above, is_event: false, until: end },
        }
    }

    /// The last match above `above`, which is one that this [`covers`](Self::covers).
    pub(super) fn answer(self, above: Seq) -> Option<Seq> {
        (self.is_event && self.quiet_after > above).then_some(self.quiet_after)
    }

    /// True if this says whether something lies above `above`, up to where it reaches.
    fn covers(self, above: Seq) -> bool {
        self.is_event || above >= self.quiet_after
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn last(events: &[i64], above: Seq, end: Seq) -> Option<Seq> {
        events.iter().map(|seq| Seq(*seq)).filter(|seq| *seq > above && *seq < end).max()
    }

    proptest! {
        #[test]
        fn what_is_known_and_a_look_at_the_rest_say_what_a_look_at_everything_says(
            events in prop::collection::btree_set(1i64..60, 0..12),
            questions in prop::collection::vec((0i64..60, 1i64..60), 1..12),
        ) {
            let events: Vec<i64> = events.into_iter().collect();
            let mut known = None;
            for (above, end) in questions {
                let (above, end) = (Seq(above), Seq(end));
                let answer = match Known::rest(known, above, end) {
                    Rest::Answered(answer) => answer,
                    Rest::Look { above: from } => {
                        prop_assert!(from >= above);
                        let next = Known::after_look(known, from, last(&events, from, end), end);
                        known = Some(next);
                        next.answer(above)
                    }
                };
                prop_assert_eq!(answer, last(&events, above, end));
            }
        }
    }

    #[test]
    fn only_what_was_flushed_since_is_looked_at_again() {
        let known = Known::after_look(None, Seq(0), Some(Seq(7)), Seq(20));
        assert_eq!(Known::rest(Some(known), Seq(3), Seq(20)), Rest::Answered(Some(Seq(7))));
        assert_eq!(Known::rest(Some(known), Seq(7), Seq(20)), Rest::Answered(None));
        assert_eq!(Known::rest(Some(known), Seq(0), Seq(30)), Rest::Look { above: Seq(19) });
        let later = Known::after_look(Some(known), Seq(19), None, Seq(30));
        assert_eq!(Known::rest(Some(later), Seq(0), Seq(30)), Rest::Answered(Some(Seq(7))));
    }

    #[test]
    fn an_older_snapshot_is_not_told_of_what_a_newer_one_had() {
        let newer = Known::after_look(None, Seq(0), Some(Seq(46)), Seq(52));
        let older = Known::after_look(Some(newer), Seq(51), None, Seq(21));
        assert_eq!(older.answer(Seq(0)), None);
        assert_eq!(Known::rest(Some(older), Seq(0), Seq(21)), Rest::Look { above: Seq(0) });
    }
}
