use schemas::{Epoch, LaneId};

use super::*;

#[test]
fn a_server_moves_only_towards_its_end_unless_what_stopped_it_passes() {
    let serving = || Phase::Serving { lane: LaneId(0), epoch: Epoch(3) };
    let stopped = || Phase::Stopped(WireError::new(ErrorKind::Fenced, "a newer epoch"));
    let away = || Phase::Stopped(WireError::new(ErrorKind::Unavailable, "the store is away"));
    let status = |phases: Vec<Phase>| {
        let (sender, receiver) = watch::channel(Phase::Starting);
        phases.into_iter().for_each(|phase| change(&sender, phase));
        receiver.borrow().report()["status"].clone()
    };
    assert_eq!(status(vec![]), "starting");
    assert_eq!(status(vec![serving()]), "serving");
    assert_eq!(status(vec![serving(), Phase::Draining, serving()]), "draining");
    assert_eq!(status(vec![serving(), Phase::Draining, stopped()]), "stopped");
    assert_eq!(status(vec![stopped(), serving(), Phase::Draining]), "stopped");
    assert_eq!(status(vec![serving(), away()]), "stopped");
    assert_eq!(status(vec![serving(), away(), serving()]), "serving");
    assert_eq!(status(vec![serving(), Phase::Draining, away(), serving()]), "draining");
}
