//! The notebook runs from its first cell to its last against a real server.

use tests::serve::{local, serve};
use tests::{judge, tools};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quickstart_runs_against_a_real_server() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _client) = serve(local(folder.path())).await.unwrap();
    let notebook = tools::repository().join("notebooks/quickstart.ipynb");
    let address = format!("grpc://{}", server.flight_addr());
    let mut arguments = vec![notebook.to_str().unwrap()];
    // `make notebook` keeps the outputs.
    if std::env::var_os("FIRN_STORE_OUTPUTS").is_some() {
        arguments.push("--store");
    }
    let verdict = judge::python_with("notebook", &arguments, &[("FIRN_SERVER", &address)]).await.unwrap();
    assert!(verdict["cells"].as_u64().unwrap() >= 8, "{verdict}");
    server.shutdown().await;
}
