//! Which S3 servers keep the axioms that Firn rests on, and what the probe says of those that do not.

use catalog::{Env, Store};
use schemas::ErrorKind;
use tests::s3::{Kind, S3};

/// What the probe answers on a server of this kind.
async fn probe(kind: Kind) -> catalog::error::Result<()> {
    let s3 = S3::start(kind).await.unwrap();
    Store::open(&s3.store("probe"), Env::system()).await?.probe().await
}

async fn assert_refused(kind: Kind) {
    let refusal = probe(kind).await.expect_err("it lets several writers win");
    assert_eq!(refusal.kind(), ErrorKind::Invalid, "{refusal}");
    let said = refusal.to_string();
    assert!(said.contains("X3") || said.contains("X4"), "it names the axiom: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versitygw_keeps_the_axioms() {
    probe(Kind::VersityGw).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds MinIO: make test-stores"]
async fn minio_keeps_the_axioms() {
    probe(Kind::MinIo).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds rclone: make test-stores"]
async fn rclone_is_refused() {
    assert_refused(Kind::Rclone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds s3s-fs: make test-stores"]
async fn s3s_fs_is_refused() {
    assert_refused(Kind::S3sFs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "fetches S3Mock: make test-stores"]
async fn s3mock_is_refused() {
    assert_refused(Kind::S3Mock).await;
}
