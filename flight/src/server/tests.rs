use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_moves_only_towards_its_end_unless_what_stopped_it_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = ServerConfig { store: StoreConfig::at(folder.path().to_str().expect("utf-8")), ..Default::default() };
    let (_sender, watching) = watch::channel(Phase::Starting);
    let opened = Box::pin(open(config, Env::system(), watching, CancellationToken::new())).await.expect("opens");
    let serving = || Phase::Serving(opened.engine.clone());
    let stopped = || Phase::Stopped(WireError::new(ErrorKind::Corrupt, "a damaged log"));
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
