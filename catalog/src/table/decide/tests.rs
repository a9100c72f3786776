use proptest::prelude::*;

use super::*;

/// A commit in the model: whose, and which rows.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Commit {
    by: usize,
    from: i64,
    to: i64,
}

/// A flusher that has decided to commit onto a base and may not know yet what became of it.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    commit: Commit,
    base: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Cut so many rows at the watermark as read, and pin them to the table as read.
    Cut(usize, i64),
    /// The swap arrives, once or again, however late; its answer is lost.
    Arrive(usize),
    /// Read the table, and do what the decision says.
    Look(usize),
}

fn watermark(table: &[Commit]) -> i64 {
    table.last().map_or(1, |commit| commit.to)
}

fn run(steps: &[Step]) -> Vec<Commit> {
    let mut table: Vec<Commit> = Vec::new();
    let mut attempts: [Option<Attempt>; 3] = [None; 3];
    let mut late: Vec<Attempt> = Vec::new();
    for step in steps {
        match *step {
            Step::Cut(by, rows) if attempts[by].is_none() => {
                let from = watermark(&table);
                attempts[by] = Some(Attempt { commit: Commit { by, from, to: from + rows }, base: table.len() });
            }
            Step::Cut(..) => {}
            Step::Arrive(by) => {
                late.extend(attempts[by]);
                for attempt in &late {
                    if attempt.base == table.len() {
                        table.push(attempt.commit);
                    }
                }
            }
            Step::Look(by) => {
                let Some(attempt) = attempts[by] else { continue };
                let mine = table.contains(&attempt.commit);
                attempts[by] = match next(mine, Seq(attempt.commit.from), Watermark(Seq(watermark(&table)))) {
                    Next::Commit => Some(Attempt { base: table.len(), ..attempt }),
                    Next::Done | Next::CutAgain => None,
                    Next::Stop => panic!("no table of this model loses anything"),
                };
            }
        }
    }
    table
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0_usize..3;
    prop_oneof![
        (who.clone(), 1_i64..4).prop_map(|(by, rows)| Step::Cut(by, rows)),
        who.clone().prop_map(Step::Arrive),
        who.prop_map(Step::Look),
    ]
}

proptest! {
    #[test]
    fn flushes_tile_whatever_is_lost_late_or_raced(steps in prop::collection::vec(step(), 0..200)) {
        let mut end = 1;
        for commit in run(&steps) {
            prop_assert_eq!(commit.from, end, "a gap or an overlap");
            end = commit.to;
        }
    }
}

#[test]
fn only_the_exact_watermark_is_committed_onto() {
    let at = |mine, from, watermark| next(mine, Seq(from), Watermark(Seq(watermark)));
    assert_eq!(at(false, 5, 5), Next::Commit);
    assert_eq!(at(false, 5, 6), Next::CutAgain);
    assert_eq!(at(false, 5, 4), Next::Stop);
    assert_eq!(at(true, 5, 9), Next::Done, "mine, and others since");
}

#[test]
fn a_file_outlives_one_sweep() {
    assert!(may_pin(3, 3) && may_pin(3, 4));
    assert!(!may_pin(3, 5));
}
